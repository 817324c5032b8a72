"""Creates the users of the development site."""

from __future__ import annotations

from typing import Any

from django.apps.registry import Apps
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User

from example_project.logins import DESK

STAFF = "admin"


def create_people_for_development(using: str, apps: Apps, **kwargs: Any) -> None:
    """Create the users after `migrate`, under DEBUG only. Existing users are not changed."""
    if settings.DEBUG and "user" in apps.all_models["auth"]:
        password = make_password(DESK.password)
        for username in DESK.usernames:
            staff = username == STAFF
            User.objects.using(using).get_or_create(
                username=username,
                defaults={"password": password, "is_staff": staff, "is_superuser": staff},
            )
