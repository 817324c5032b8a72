"""The parts of a provider that are code: Apple's signed secret, and the registration at a Mastodon server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from oauth_connect.models import Connection, RegisteredClient
from oauth_connect.testing import walk
from oauth_connect.testing.server import CLIENT_ID, FakeServer
from oauth_connect.testing.server.settings_entry import entry_for, provider_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as started:
        yield started


@pytest.fixture
def connect(server, client, configure) -> Callable[..., Connection]:
    """Connect an account with a preset and its hooks, which ``FakeProvider`` replaces."""

    def whole_flow(name: str, *, entered: dict[str, str], **hooks: str) -> Connection:
        entry = {**entry_for(server, name), "hooks": hooks}
        configure(PROVIDERS={name: entry})
        server.serve(provider_of(name, entry))
        visit = walk.Visit(name, server, "octocat", variables=entered)
        assert walk.go(client, walk.walk(visit)).response.status_code == 302
        return Connection.objects.get()

    return whole_flow


def forms(server: FakeServer, path: str) -> list[dict[str, Any]]:
    return [dict(request.form) for request in server.requests if request.path == path]


def test_a_secret_that_is_signed_for_each_request_is_accepted(server, connect):
    connection = connect("apple", entered={}, client_secret="tests.contract.apple_secret.signed")

    connection.refresh()

    assert connection.account_label == "octocat@example.com"
    secrets = {form["client_secret"] for form in forms(server, "/token")}
    assert all(secret.startswith("ey") for secret in secrets)


def test_a_client_is_registered_at_the_server_that_a_user_names(server, connect):
    hook = "oauth_connect.contrib.mastodon.register_client"
    connection = connect("mastodon", entered={"instance": "social.example"}, register_client=hook)

    connection.disconnect()

    [registration] = forms(server, "/api/v1/apps")
    assert registration["redirect_uris"] == "https://app.example/oauth/mastodon/callback/"
    assert RegisteredClient.objects.count() == 1
    [exchange] = forms(server, "/token")
    assert exchange["client_id"] == CLIENT_ID
    [revocation] = forms(server, "/revoke")
    assert not server.holds(revocation["token"])
