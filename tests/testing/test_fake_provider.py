"""What a test of a site does with a fake provider: connect, call, and let things fail."""

from __future__ import annotations

import io
import webbrowser
from dataclasses import replace
from typing import Any

import pytest
import requests
from django.core.management import CommandError, call_command

from oauth_connect.conf import conf
from oauth_connect.errors import ProviderUnavailable, ReauthorizationRequired
from oauth_connect.flows import machine_session, session_for
from oauth_connect.models import Connection
from oauth_connect.stores.columns import token_columns
from oauth_connect.testing import FakeProvider
from oauth_connect.testing.browser import FakeBrowser
from oauth_connect.testing.errors import FakeProviderError
from oauth_connect.testing.fixtures import fake_provider
from tests.support.tokens import raw, stored

__all__ = ["fake_provider"]
pytestmark = [pytest.mark.django_db, pytest.mark.once]


@pytest.fixture
def fake(no_settings, fake_provider) -> FakeProvider:
    return fake_provider("acme")


def paths(fake: FakeProvider) -> list[str]:
    return [request.path for request in fake.requests]


def refreshes(fake: FakeProvider) -> int:
    return sum(request.form.get("grant_type") == "refresh_token" for request in fake.requests)


# --- connect and call ---------------------------------------------------------------------------


def test_the_whole_flow_connects_an_account(fake, client, user):
    connection = fake.connect(client, account="hubot", scopes=["read"])

    assert (connection.provider, connection.user, connection.status) == ("acme", user, "active")
    assert "hubot" in connection.account_label
    assert connection.has_scopes("read")
    assert paths(fake)[:2] == ["/authorize", "/token"]
    sent = fake.requests[0].query
    assert sent["code_challenge_method"] == "S256"
    assert sent["redirect_uri"].endswith("/oauth/acme/callback/")


def test_a_connection_is_stored_without_pages_and_requests(fake, client, user):
    connection = fake.store(user, scopes=["read"])
    assert paths(fake) == []

    connected = fake.connect(client, scopes=["read"])
    assert connected.pk == connection.pk  # the same account: a flow gives the same id
    assert connected.scopes == connection.scopes


def test_a_call_gets_the_answer_of_the_test_and_the_last_one_stays(fake, user):
    http = fake.store(user).session()
    fake.api("GET", "/user", status=503)
    fake.api("GET", "/user", json={"login": "octocat"}, headers={"X-Total": "1"})

    assert http.get("user").status_code == 503
    for _ in range(2):
        answer = http.get("user")
        assert (answer.json(), answer.headers["X-Total"]) == ({"login": "octocat"}, "1")
    assert [(request.method, request.path) for request in fake.requests] == [("GET", "/api/user")] * 3


def test_an_api_path_without_an_answer_says_how_to_give_one(fake, user):
    answer = fake.store(user).session().get("nowhere")
    assert answer.status_code == 404
    assert 'fake.api("GET", "/nowhere"' in answer.text.replace("\\", "")


def test_what_the_user_does_not_allow_is_not_granted(fake, client):
    connection = fake.connect(client, scopes=["read", "write"], granted=["read"])
    assert connection.scopes == ["read"]


@pytest.mark.parametrize("name", ["acme", "github", "google", "slack"])
def test_a_user_who_allows_no_scope_grants_nothing(name, no_settings, fake_provider, client):
    fake = fake_provider(name)
    connection = fake.connect(client, scopes=["read"], granted=[])
    assert connection.scopes == []
    fake.consent("hubot", [])
    assert fake.connect(client, account="hubot", scopes=["read"]).scopes == []
    fake.expire(connection)
    connection.access_token()
    assert stored(connection).scopes == []


def test_two_accounts_of_one_user_are_two_connections(fake, client):
    first, second = fake.connect(client), fake.connect(client, account="hubot")
    assert first.pk != second.pk
    assert first.account_id != second.account_id


# --- the life of a token ------------------------------------------------------------------------


def test_an_expired_token_is_refreshed_by_the_next_call(fake, client, user):
    fake.connect(client)
    fake.api("GET", "/user", json={})
    connection = Connection.objects.get()

    fake.expire(connection)

    assert session_for(user, "acme").get("user").status_code == 200
    assert refreshes(fake) == 1
    assert paths(fake).count("/api/user") == 1  # the expiry was known, so no call was refused


@pytest.mark.parametrize("instance", ["the same", "another", "a session"])
def test_whoever_holds_the_connection_finds_out_that_its_token_expired(fake, user, instance):
    connection = fake.store(user)
    fake.api("GET", "/user", json={})
    other, http = stored(connection), connection.session()
    assert http.get("user").status_code == 200
    assert other.access_token()

    for expiry in (1, 2):
        fake.expire(connection)
        session = {"the same": connection.session(), "another": other.session(), "a session": http}[instance]
        assert session.get("user").status_code == 200
        assert refreshes(fake) == expiry


def test_a_token_without_expiry_is_refused_by_the_api_only(fake, user):
    connection = fake.store(user)
    raw(connection).update(**token_columns(connection, replace(connection.token, expires_at=None), None))
    connection = stored(connection)
    fake.api("GET", "/user", json={})

    fake.expire(connection)

    assert stored(connection).expires_at is None
    assert stored(connection).session().get("user").status_code == 200  # after a 401 and a refresh
    assert refreshes(fake) == 1


def test_a_refresh_gives_another_refresh_token_and_the_spent_one_ends_the_grant(fake, user):
    connection = fake.store(user)
    spent = connection.token.refresh_token
    connection.refresh()
    assert connection.token.refresh_token != spent
    assert fake.server.holds(connection.token.access_token)


def test_after_the_end_of_a_grant_the_user_must_reconnect(fake, client, user):
    connection = fake.connect(client)
    fake.end_grant(connection)

    with pytest.raises(ReauthorizationRequired) as error:
        session_for(user, "acme").get("user")

    assert error.value.reason == "revoked"
    assert stored(connection).status == Connection.Status.REAUTHORIZATION_REQUIRED
    assert fake.connect(client).status == "active"


@pytest.mark.django_db(transaction=True)
def test_disconnecting_revokes_the_token_at_the_provider(fake, client):
    connection = fake.connect(client)
    token = connection.token
    connection.disconnect()
    assert paths(fake)[-1] == "/revoke"
    assert not fake.server.holds(token.access_token)
    assert not fake.server.holds(token.refresh_token)


# --- failures -----------------------------------------------------------------------------------


def test_a_provider_that_is_down_is_unavailable_for_as_long_as_it_says(fake, user):
    connection = fake.store(user)
    fake.expire(connection)
    fake.fail("token", status=503, retry_after=30)

    with pytest.raises(ProviderUnavailable) as error:
        connection.access_token()

    assert error.value.retry_after == 30


def test_a_lost_response_is_noticed_and_the_connection_is_in_doubt(fake, user):
    connection = fake.store(user)
    fake.expire(connection)
    fake.fail("token", lost=True)

    with pytest.raises(ProviderUnavailable):
        connection.access_token()

    assert stored(connection).in_doubt
    assert refreshes(fake) == 1


@pytest.mark.parametrize("endpoint", ["token", "api"])
def test_a_timeout_does_not_take_as_long_as_the_site_would_wait(fake, user, configure, endpoint):
    """The time limits of the site are ten minutes here, after which this test would be ended."""
    configure(HTTP_TIMEOUT=600, API_TIMEOUT=600)
    connection = fake.store(user)
    if endpoint == "token":
        fake.expire(connection)
    fake.fail(endpoint, timeout=True)

    with pytest.raises(requests.RequestException):
        connection.session().get("user")


def test_the_time_limits_are_the_sites_again_after_a_timeout(fake, user, configure):
    configure(HTTP_TIMEOUT=600, API_TIMEOUT=600)
    fake.fail("token", timeout=True)
    assert (conf.http_timeout, conf.api_timeout) == (1, 600)
    fake.recover("token")
    assert (conf.http_timeout, conf.api_timeout) == (600, 600)


def test_a_user_who_denies_access_gets_the_page_that_says_so(fake, client):
    fake.fail("authorization", error="access_denied")
    answer = fake.callback(client)
    assert answer.status_code == 400
    assert Connection.objects.count() == 0


def test_a_denial_or_a_consent_of_the_test_comes_before_that_of_the_flow(fake, client):
    fake.deny()
    assert fake.callback(client).status_code == 400
    fake.consent("hubot")
    assert "hubot" in fake.connect(client).account_label
    assert "octocat" in fake.connect(client).account_label


def test_a_refused_flow_raises_what_its_page_says(fake, client):
    fake.fail("token", error="invalid_client", status=401)
    with pytest.raises(AssertionError, match=r"The site refuses .* 50\d: .+\(code: "):
        fake.connect(client)


def test_a_failure_ends_after_its_times_or_with_recover(fake, user):
    http = fake.store(user).session()
    fake.api("GET", "/user", json={})
    fake.fail("api", status=502, times=2)
    assert [http.get("user").status_code for _ in range(3)] == [502, 502, 200]
    fake.fail("api", status=502, times=None)
    assert [http.get("user").status_code for _ in range(3)] == [502, 502, 502]
    fake.recover()
    assert http.get("user").status_code == 200


# --- other flows --------------------------------------------------------------------------------


def test_a_machine_token_is_requested_and_its_expiry_too(fake):
    fake.api("GET", "/daily", json=[1])
    assert machine_session("acme", scopes=["reports"]).get("daily").json() == [1]

    fake.expire(Connection.objects.get(grant="client_credentials"))

    assert machine_session("acme", scopes=["reports"]).get("daily").json() == [1]
    grants = [request.form["grant_type"] for request in fake.requests if request.path == "/token"]
    assert grants == ["client_credentials"] * 2


def test_a_device_is_approved_without_a_person(fake, user):
    fake.consent("hubot")
    output: Any = io.StringIO()
    call_command("oauth_login", "acme", "--user", user.get_username(), stdout=output, stderr=output)
    assert "hubot" in Connection.objects.get().account_label
    assert "/device_authorization" in paths(fake)


@pytest.fixture
def log_in(user):
    """Run ``oauth_login --browser``, which waits ten minutes for a person."""

    def run(name: str, *options: str) -> str:
        output: Any = io.StringIO()
        arguments = (name, "--user", user.get_username(), *options)
        call_command("oauth_login", *arguments, stdout=output, stderr=output)
        return str(output.getvalue())

    return run


@pytest.mark.parametrize(("name", "options"), [("acme", ["--browser"]), ("dropbox", [])])
def test_a_login_in_a_browser_ends_without_a_person(name, options, no_settings, fake_provider, log_in):
    fake = fake_provider(name)
    fake.consent("hubot", ["read"])
    log_in(name, *options)
    connection = Connection.objects.get()
    assert (connection.provider, connection.status) == (name, "active")
    assert "/device_authorization" not in paths(fake)


def test_a_login_in_a_browser_that_is_denied_says_so(fake, log_in):
    fake.deny()
    with pytest.raises(CommandError, match="access_denied"):
        log_in("acme", "--browser")
    assert not Connection.objects.exists()


def test_a_login_in_a_browser_without_a_decision_ends_immediately(fake, log_in):
    with pytest.raises(FakeProviderError, match=r"Call fake\.consent\(\) or fake\.deny\(\) before"):
        log_in("acme", "--browser")


def test_a_login_page_that_does_not_lead_back_is_shown(fake, log_in):
    fake.consent()
    fake.fail("authorization", status=503)
    with pytest.raises(FakeProviderError, match=r"does not send the browser back\. It answers 503"):
        log_in("acme", "--browser")


def test_other_pages_are_for_the_other_browsers(fake):
    browser = webbrowser.get()
    assert isinstance(browser, FakeBrowser)
    for url in (fake.url, "https://id.example/authorize?x=1"):
        assert not browser.open(url)


# --- one refresh per expiry ---------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_32_threads_that_meet_one_expired_token_make_one_token_request(fake, client, user, calls_at_once):
    fake.connect(client)
    fake.api("GET", "/user", json={"login": "octocat"})
    fake.expire(Connection.objects.get())
    before = paths(fake).count("/token")

    answers = calls_at_once(32, lambda: session_for(user, "acme").get("user").json())

    assert answers == [{"login": "octocat"}] * 32
    assert paths(fake).count("/token") == before + 1


# --- secrets ------------------------------------------------------------------------------------


def test_no_repr_has_a_token(fake, client):
    connection = fake.connect(client)
    token = connection.token
    shown = repr([fake, fake.requests, fake.server, vars(fake)])
    for secret in (token.access_token, token.refresh_token, fake.requests[0].query["state"]):
        assert secret not in shown
