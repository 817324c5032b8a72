"""A site goes the whole way with each preset, over HTTP with the fake provider, and with no test double."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from oauth_connect.errors import ProviderUnavailable, ReauthorizationRequired
from oauth_connect.flows import machine_session
from oauth_connect.flows.site import sites_of, use_site
from oauth_connect.models import Connection
from oauth_connect.models.row import UNDECIDED
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.device import await_token
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.testing import FakeProvider
from oauth_connect.testing.server import Account, shapes
from tests.testing.entries import NAMES, provider_of

pytestmark = [pytest.mark.django_db, pytest.mark.once, pytest.mark.usefixtures("no_settings")]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fake(name: str) -> Iterator[FakeProvider]:
    with FakeProvider(name) as opened:
        yield opened


def served(fake: FakeProvider) -> Provider:
    provider = fake.server.provider
    assert provider is not None
    return provider


def hubot(fake: FakeProvider) -> Account:
    return next(one for one in fake.server.accounts if one.name == "hubot")


def entered(name: str) -> dict[str, str]:
    """Return what the user enters. It is not the example of the entry."""
    provider = provider_of(name)
    return {name: shapes.value_for(provider, name, "entered by hubot") for name in provider.asked_of("user")}


def stored(connection: Connection) -> Token:
    token: Token = Connection.objects.get(pk=connection.pk).token
    return token


def test_an_account_is_connected_refreshed_and_disconnected(
    name, fake, client, django_capture_on_commit_callbacks
):
    connection = fake.connect(client, account="hubot", **entered(name))
    check_connection(connection, fake)
    if connection.token.renewable:
        check_refresh(connection, fake)
    token = stored(connection)

    with django_capture_on_commit_callbacks(execute=True):
        connection.disconnect()

    is_revoked = served(fake).revocation.style != "none" and bool(served(fake).revocation_endpoint)
    assert fake.server.holds(token.access_token) is not is_revoked
    assert ("/revoke" in {request.path for request in fake.requests}) is is_revoked


def check_connection(connection: Connection, fake: FakeProvider) -> None:
    """Check that the row has what the provider said."""
    provider = served(fake)
    token = connection.token
    assert fake.server.holds(token.access_token)
    assert (connection.account_id, connection.account_label) == shapes.account_of(provider, hubot(fake))
    assert {*connection.scopes} >= {*provider.scopes}
    assert (token.expires_at is not None) is shapes.tokens_expire(provider)
    assert bool(token.refresh_token) is shapes.issues_refresh_tokens(provider)
    assert connection.variables.items() >= shapes.variables_of(provider, hubot(fake)).items()


def check_refresh(connection: Connection, fake: FakeProvider) -> None:
    """Check that a refresh brings another access token, and another refresh token where they rotate."""
    provider, before = served(fake), connection.token

    connection.refresh()

    token = stored(connection)
    assert token.access_token != before.access_token
    assert fake.server.holds(token.access_token)
    rotates = bool(before.refresh_token) and shapes.rotates_refresh_tokens(provider)
    assert (token.refresh_token != before.refresh_token) is rotates


RENEWABLE = [
    name
    for name in NAMES
    if shapes.issues_refresh_tokens(one := provider_of(name)) or one.refresh.style == "exchange_access_token"
]


@pytest.mark.parametrize("name", RENEWABLE, indirect=True)
def test_a_provider_that_is_down_is_not_the_end_and_an_ended_grant_is(fake, user):
    connection = fake.store(user)

    fake.fail("token", error="temporarily_unavailable")
    with pytest.raises(ProviderUnavailable):
        connection.refresh()
    connection.refresh()

    fake.end_grant(connection)
    with pytest.raises(ReauthorizationRequired):
        connection.refresh()


WITH_DEVICES = [name for name in NAMES if provider_of(name).device_authorization_endpoint]


@pytest.mark.parametrize("name", WITH_DEVICES, indirect=True)
def test_a_device_gets_a_token(fake):
    provider = served(fake).resolve({})
    fake.consent("hubot")

    with AuthorizationServer(provider) as server:
        authorization = server.authorize_device(provider.scopes)
        token = await_token(server, authorization, scopes=provider.scopes, sleep=lambda seconds: None)

    assert fake.server.holds(token.access_token)
    assert {*token.scopes} >= {*provider.scopes}


@pytest.mark.parametrize("name", ["linear", "microsoft", "spotify", "twitch", "zoom"], indirect=True)
def test_the_client_gets_a_token_of_its_own(name, fake):
    fake.api("GET", "/status", json={"ok": True})

    with machine_session(name) as session:
        assert session.get("status").json() == {"ok": True}

    assert fake.requests[0].path == "/token"


def test_one_consent_at_slack_connects_the_bot_and_the_user(settings, client, user):
    slack = {"client_id": "c", "client_secret": "s"}
    bot = {
        **slack,
        "scopes": ["chat:write"],
        "authorize": {"extra_scopes": {"user_scope": ["search:read"]}},
        "token_response": {"other_entries": ["slack-user"]},
    }
    other = {**slack, "preset": "slack", "environment": "user", "scopes": ["search:read"]}
    settings.OAUTH_CONNECT = {"PROVIDERS": {"slack": bot, "slack-user": other}}

    with FakeProvider("slack") as fake:
        fake.connect(client)

        found = {one.provider: one for one in Connection.objects.for_owner(user)}
        assert {slug: one.scopes for slug, one in found.items()} == {
            "slack": ["chat:write"],
            "slack-user": ["search:read"],
        }
        for connection in found.values():
            before = connection.token.access_token
            connection.refresh()
            assert stored(connection).access_token != before
            assert fake.server.holds(stored(connection).access_token)
        assert found["slack"].token.access_token != found["slack-user"].token.access_token


@pytest.mark.parametrize("name", ["facebook", "instagram"], indirect=True)
def test_a_short_lived_token_is_exchanged_for_a_long_lived_one(fake, client):
    connection = fake.connect(client)

    requests = [{**one.query, **one.form} for one in fake.requests if one.path == "/token"]
    code, exchange = (one["grant_type"] for one in requests)
    assert (code, exchange.endswith("_exchange_token")) == ("authorization_code", True)
    assert connection.token.access_token not in requests[1].values()


@pytest.mark.parametrize("name", ["atlassian", "basecamp", "docusign", "harvest", "xero"], indirect=True)
def test_a_user_with_several_sites_chooses_one(fake, client):
    fake.server.sites = 2

    connection = fake.connect(client)

    variable = served(fake).accounts.variable
    assert connection.variables[variable] == UNDECIDED
    first, second = sites_of(connection)
    assert first.id == shapes.variables_of(served(fake), fake.server.accounts[0])[variable]
    use_site(connection, second)
    assert Connection.objects.get().variables[variable] == second.id
