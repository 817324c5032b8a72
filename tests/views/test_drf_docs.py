"""docs/drf.md: its code runs in Django REST framework."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test.utils import override_settings
from django.urls import include, path
from rest_framework.routers import SimpleRouter
from rest_framework.settings import reload_api_settings
from rest_framework.test import APIClient

from oauth_connect.flows.choice import choose
from oauth_connect.models import Connection, Owner
from oauth_connect.models.row import PROTOCOL_COLUMNS
from tests.servers.scripted import Answer
from tests.support.visitor import Visitor

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "drf.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n# (\S+)\n(.+?)```", PAGE, re.DOTALL)
NAMES = ["mysite.api", "mysite.serializers", "mysite.views"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]


@pytest.fixture(scope="module", autouse=True)
def mysite() -> Iterator[dict[str, ModuleType]]:
    """The modules of the page, importable by their names. Blocks of one file follow each other."""
    modules = {name: ModuleType(name) for name in ("mysite", "mysite.urls", *NAMES)}
    sys.modules.update(modules)
    for name in NAMES:
        file = f"{name.replace('.', '/')}.py"
        for block in (code for of_file, code in BLOCKS if of_file == file):
            exec(compile(block, file, "exec"), vars(modules[name]))  # noqa: S102  (the page's own code)
    views: Any = modules["mysite.views"]
    router = SimpleRouter()
    router.register("connections", views.Connections, basename="connection")
    modules["mysite.urls"].urlpatterns = [  # type: ignore[attr-defined]
        path("repositories/", views.Repositories.as_view()),
        path("oauth/", include("oauth_connect.urls")),
        *router.urls,
    ]
    yield modules
    for name in modules:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def framework(mysite, scripted, scripted_entry, configure) -> Iterator[None]:
    """The settings of the page, and a provider at the scripted server."""
    (block,) = [code for file, code in BLOCKS if file == "settings.py"]
    chosen: dict[str, Any] = {}
    exec(block, chosen)  # noqa: S102  (the page's own code)
    configure(PROVIDERS={"github": scripted_entry})
    named = {"ROOT_URLCONF": "mysite.urls", "REST_FRAMEWORK": chosen["REST_FRAMEWORK"]}
    with override_settings(**named, INSTALLED_APPS=[*django_settings.INSTALLED_APPS, "rest_framework"]):
        reload_api_settings(setting="REST_FRAMEWORK")
        yield
    reload_api_settings(setting="REST_FRAMEWORK")


@pytest.fixture
def client(user) -> APIClient:
    """A client of the framework that is no session of Django's."""
    client = APIClient()
    client.force_authenticate(user)
    return client


@pytest.fixture
def connected(make_connection) -> Any:
    """Store a connection. ``age``: seconds since its token was issued, which is valid for an hour."""
    return lambda **options: make_connection("github", **options)


def test_each_block_belongs_to_a_file():
    assert len(BLOCKS) == PAGE.count("```python") == 5
    assert {file for file, _ in BLOCKS} == {
        "settings.py",
        *(f"{name.replace('.', '/')}.py" for name in NAMES),
    }


def test_a_view_calls_for_its_user(client, scripted, connected):
    connected()
    scripted.on("/api/user/repos", Answer(body=[{"full_name": "ada/engine"}]))

    assert client.get("/repositories/").json() == ["ada/engine"]


def test_who_is_not_connected_is_answered_with_the_way_to_connect(client):
    response = client.get("/repositories/")

    assert (response.status_code, response.json()["error"]) == (403, "not_connected")
    assert response.json()["connect_url"].startswith("/oauth/github/connect/")


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (Answer(400, {"error": "invalid_grant"}), 403, "revoked"),
        (Answer(503), 503, "http_503"),
        (Answer(503, headers={"Retry-After": "7"}), 503, "http_503"),
        (Answer(401, {"error": "invalid_client"}), 502, "invalid_client"),
    ],
    ids=["must reconnect", "down", "down for seven seconds", "settings"],
)
def test_a_call_that_fails_is_answered(answer, status, code, client, scripted, connected):
    connected(age=7200)
    scripted.on("/token", answer)

    response = client.get("/repositories/")

    assert (response.status_code, response.json()["error"]) == (status, code)
    assert response.get("Retry-After") == (None if status != 503 else answer.headers.get("Retry-After", "30"))


def test_a_lost_key_is_answered(client, connected, configure):
    connected()
    configure(KEYS=["A" * 43 + "="])

    response = client.get("/repositories/")

    assert (response.status_code, response.json()) == (500, {"error": "key_unavailable"})


def test_several_accounts_are_answered_with_the_page_that_asks(client, user, scripted, connected):
    connected()
    chosen = connected()

    response = client.get("/repositories/")

    assert (response.status_code, response.json()) == (
        409,
        {"error": "several_accounts", "choose_url": "/oauth/github/accounts/"},
    )
    choose(Owner.of(user), "github", chosen.pk)
    scripted.on("/api/user/repos", Answer(body=[]))
    assert client.get("/repositories/").status_code == 200


def test_the_framework_s_own_errors_stay():
    assert APIClient().get("/repositories/").status_code == 403
    assert APIClient().get("/connections/").json() == {
        "detail": "Authentication credentials were not provided."
    }


def test_other_errors_pass(client, connected, scripted):
    connected()
    scripted.on("/api/user/repos", Answer(500))

    with pytest.raises(Exception, match="500 Server Error"):
        client.get("/repositories/")


def test_the_serializer_shows_an_owner_s_connections_and_no_token(client, other_user, connected):
    mine = connected(account_label="ada")
    connected(owner=other_user)
    connected(account_label="gone").disconnect()

    (found,) = client.get("/connections/").json()

    assert (found["id"], found["account_label"], found["status"]) == (str(mine.pk), "ada", "active")
    shown = {"status", "scopes", "last_refreshed_at"}
    assert set(found) & PROTOCOL_COLUMNS == shown
    assert "access-0" not in str(found)


def test_the_serializer_takes_nothing(client, mysite, connected):
    connection = connected()
    kind = mysite["mysite.serializers"].ConnectionSerializer

    serializer = kind(connection, data={"status": "revoked", "account_label": "mallory"})

    assert serializer.is_valid()
    assert serializer.validated_data == {}
    assert client.patch(f"/connections/{connection.pk}/", {"status": "revoked"}).status_code == 405
    assert Connection.objects.get().status == "active"


def test_the_json_api_knows_the_users_of_the_session_alone(client, user):
    assert client.get("/connections/").status_code == 200
    assert client.get("/oauth/api/").json()["error"] == "not_authenticated"


def test_the_json_api_works_beside_the_framework(user, connected):
    connected()

    assert len(Visitor(user).get("/oauth/api/").json()["connections"]) == 1
