"""The users and repositories of Codeyard, and the clients that may request access to them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from oauth2_provider.models import Application

from example_project.logins import CODEYARD

from .models import Activity, Repository

SITE_NAME = "Desk"
MACHINE_NAME = "Desk's reports"
TERMINAL_NAME = "Desk at the terminal"


class Person(NamedTuple):
    pk: int
    login: str
    first_name: str
    last_name: str


class Project(NamedTuple):
    owner: str
    name: str
    description: str
    language: str
    stars: int
    activity: tuple[tuple[int, str, str], ...]
    """Hours ago, actor and text of each line, newest first."""


PEOPLE = (
    Person(7, "ada", "Ada", "Lovelace"),
    Person(8, "linus", "Linus", "Torvalds"),
)
PROJECTS = (
    Project(
        "ada",
        "analytical-engine",
        "A general-purpose machine, in brass",
        "Cards",
        1843,
        (
            (1, "ada", "pushed 2 commits to main"),
            (5, "babbage", "opened issue 12: the mill jams on carry"),
            (26, "ada", "released 0.3"),
        ),
    ),
    Project(
        "ada",
        "bernoulli",
        "Note G: Bernoulli numbers, step by step",
        "Tables",
        815,
        (
            (3, "ada", "merged 4: fix the sign in operation 4"),
            (30, "menabrea", "commented on 4: well seen"),
        ),
    ),
    Project(
        "ada",
        "poetical-science",
        "Essays",
        "Prose",
        37,
        ((72, "ada", "pushed 1 commit to main"),),
    ),
    Project(
        "linus",
        "kernel",
        "Just a hobby, will not be big and professional",
        "C",
        90210,
        (
            (2, "linus", "merged 2048: scheduler: do less"),
            (4, "greg", "tagged 6.66-rc1"),
        ),
    ),
    Project(
        "linus",
        "dive-log",
        "Where, how deep, how long",
        "C++",
        2300,
        ((50, "linus", "closed issue 77: air is not nitrox"),),
    ),
)


@transaction.atomic
def create_people() -> None:
    """Create the users and their repositories. Existing ones are not changed."""
    for person in PEOPLE:
        if not User.objects.filter(pk=person.pk).exists():
            User.objects.create_user(
                person.login,
                password=CODEYARD.password,
                pk=person.pk,
                first_name=person.first_name,
                last_name=person.last_name,
            )
    for project in PROJECTS:
        _create_project(project)


def _create_project(project: Project) -> None:
    repository, created = Repository.objects.get_or_create(
        name=project.name,
        defaults={
            "owner": User.objects.get(username=project.owner),
            "description": project.description,
            "language": project.language,
            "stars": project.stars,
        },
    )
    if created:
        now = timezone.now()
        Activity.objects.bulk_create(
            Activity(repository=repository, at=now - timedelta(hours=hours), actor=actor, text=text)
            for hours, actor, text in project.activity
        )


def register_site(
    client_id: str, client_secret: str, redirect_uris: Iterable[str], name: str = SITE_NAME
) -> Application:
    """Register a confidential client for the authorization code grant."""
    return _register(
        client_id,
        name=name,
        client_secret=client_secret,
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        redirect_uris=" ".join(redirect_uris),
    )


def register_machine(client_id: str, client_secret: str, name: str = MACHINE_NAME) -> Application:
    """Register a confidential client that acts for itself (RFC 6749 section 4.4)."""
    return _register(
        client_id,
        name=name,
        client_secret=client_secret,
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS,
    )


def register_terminal(client_id: str, name: str = TERMINAL_NAME) -> Application:
    """Register a public client for the device flow. A tool on a user's machine cannot keep a secret."""
    return _register(
        client_id,
        name=name,
        client_type=Application.CLIENT_PUBLIC,
        authorization_grant_type=Application.GRANT_DEVICE_CODE,
    )


def _register(client_id: str, **fields: str) -> Application:
    """Register a client, or update the one with this client id."""
    application, _ = Application.objects.update_or_create(client_id=client_id, defaults=fields)
    return application
