"""Mastodon: the site registers a client at each server that a user names, once."""

from __future__ import annotations

import threading

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command

from oauth_connect.conf import conf
from oauth_connect.contrib.mastodon import register_client
from oauth_connect.models import Connection, RegisteredClient
from tests.management.conftest import OTHER_KEY
from tests.servers.scripted import Answer
from tests.support.visitor import Visitor, query_of, state_of

pytestmark = pytest.mark.django_db(transaction=True)
CLIENT = {"id": "1", "client_id": "made here", "client_secret": "canary-made", "redirect_uri": "ignored"}


@pytest.fixture
def visitor(user, scripted, scripted_entry, configure, issues) -> Visitor:
    scripted.on("/api/v1/apps", Answer(body=CLIENT))
    entry = {name: value for name, value in scripted_entry.items() if not name.startswith("client_")}
    entry |= {
        "scopes": ["profile"],
        "token_endpoint_auth_method": "client_secret_post",
        "variables": {"place": {"source": "user", "pattern": "[a-z]+", "label": "Server", "example": "here"}},
        "hooks": {"register_client": "oauth_connect.contrib.mastodon.register_client"},
    }
    configure(PROVIDERS={"scripted": entry})
    return Visitor(user)


def connect(visitor: Visitor) -> str:
    url = visitor.start(data={"place": "here"})
    visitor.come_back(state=state_of(url), code="code")
    return query_of(url)["client_id"]


def test_a_client_is_registered_once_for_each_server(visitor, scripted) -> None:
    assert connect(visitor) == "made here"
    connection = Connection.objects.get()
    connection.refresh()
    connection.disconnect()
    connect(visitor)

    [request] = scripted.asked("/api/v1/apps")
    assert request.form == {
        "client_name": "app.example",
        "website": "https://app.example/",
        "redirect_uris": "https://app.example/oauth/scripted/callback/",
        "scopes": "read write profile",
    }
    used = {(one.form["client_id"], one.form["client_secret"]) for one in scripted.asked("/token")}
    assert used == {("made here", "canary-made")}
    row = RegisteredClient.objects.get()
    assert (row.provider, row.server) == ("scripted", scripted.url.removeprefix("http://"))
    assert "canary" not in str(row.sealed_client)
    assert "canary" not in row.sealed_client.ciphertext


def test_of_two_that_register_at_the_same_time_one_client_is_kept(
    visitor, scripted, configure, calls_at_once
) -> None:
    both = threading.Barrier(2)
    answers = [
        Answer(body={**CLIENT, "client_id": name}, until=lambda: both.wait(30))
        for name in ("first", "second")
    ]
    scripted.on("/api/v1/apps", *answers)

    def register() -> str:
        provider = conf.declared_provider("scripted").resolve({"place": "here"})
        return register_client(provider, {})["client_id"]

    found = calls_at_once(2, register)
    assert found == [found[0]] * 2
    assert RegisteredClient.objects.count() == 1


def test_a_site_that_moves_registers_again(visitor, scripted, configure) -> None:
    connect(visitor)
    configure(BASE_URL="https://new.example")
    scripted.on("/api/v1/apps", Answer(body={**CLIENT, "client_id": "made later"}))
    assert connect(visitor) == "made later"
    assert RegisteredClient.objects.count() == 1
    assert len(scripted.asked("/api/v1/apps")) == 2


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404, b"<html>"),
        Answer(422, {"error": "Validation failed"}),
        Answer(200, {"client_id": "x"}),
        Answer(200, ["x"]),
        Answer(200, {"client_id": "x", "client_secret": None}),
        Answer(503),
        Answer(cut=-1),
    ],
)
def test_a_server_that_registers_no_client_gets_a_page_that_says_so(visitor, scripted, answer) -> None:
    scripted.on("/api/v1/apps", answer)
    response = visitor.post("/oauth/scripted/connect/", {"place": "here"})
    assert response.status_code in (400, 502, 503)
    assert not RegisteredClient.objects.exists()
    scripted.on("/api/v1/apps", Answer(body=CLIENT))
    assert connect(visitor) == "made here"


@pytest.mark.parametrize(
    "changes", [{"BASE_URL": lambda request: "https://x.example"}, {"RECORD_REDIRECTS": ["scripted"]}]
)
def test_a_site_without_one_redirect_uri_is_told_so(visitor, scripted, configure, changes, user) -> None:
    configure(**changes)
    provider = conf.declared_provider("scripted").resolve({"place": "here"})
    with pytest.raises(ImproperlyConfigured, match="one redirect URI"):
        register_client(provider, {})
    assert not scripted.asked("/api/v1/apps")


def test_keys_are_rotated_for_registered_clients_too(visitor, scripted, configure) -> None:
    connect(visitor)
    old = settings.OAUTH_CONNECT["KEYS"]
    configure(KEYS=[OTHER_KEY, *old])
    call_command("oauth_rotate_keys", verbosity=0)
    configure(KEYS=[OTHER_KEY])
    assert connect(visitor) == "made here"
    configure(KEYS=old)  # the key is missing on this machine: nothing is registered again
    assert visitor.post("/oauth/scripted/connect/", {"place": "here"}).status_code == 500
    assert len(scripted.asked("/api/v1/apps")) == 1
