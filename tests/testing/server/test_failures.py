"""Failures on demand: each endpoint fails as a test asks, so often, and works again afterwards."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import requests

from oauth_connect.testing.server import ENDPOINTS, FakeServer
from tests.support.waiting import eventually
from tests.testing.oauth_client import TIMEOUT, Client, client_of, outcome


def ask(fake: FakeServer, client: Client, endpoint: str, token: str) -> requests.Response:
    """Send a right request to an endpoint."""
    headers = {"Authorization": f"Bearer {token}"}
    urls = {
        "userinfo": f"{fake.url}/userinfo",
        "accounts": fake.accounts_url,
        "api": f"{fake.api_base_url}user",
    }
    if endpoint == "authorization":
        fake.consent("octocat")
        return requests.get(client.authorization_url(), allow_redirects=False, timeout=TIMEOUT)
    if endpoint in urls:
        return requests.get(urls[endpoint], headers=headers, timeout=TIMEOUT)
    form: dict[str, str | None] = {
        "grant_type": "client_credentials",
        "token": token,
        "client_id": client.client_id,
    }
    return client.post(f"{endpoint}_endpoint", form)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_each_endpoint_is_unavailable_once_and_then_works(
    fake: FakeServer, client: Client, endpoint: str
) -> None:
    fake.answer_api("GET", "/user", json={})
    token = client.tokens()["access_token"]
    fake.fail(endpoint, status=503, retry_after=30)
    failed, worked = [ask(fake, client, endpoint, token) for _ in range(2)]
    assert (failed.status_code, failed.headers["Retry-After"]) == (503, "30")
    assert worked.status_code in (200, 303)


def test_failures_come_in_order_and_the_last_stays_until_recovery(fake: FakeServer, client: Client) -> None:
    token = client.tokens()["refresh_token"]
    fake.fail("token", status=500, times=2)
    fake.fail("token", error="invalid_client", times=None)
    expected = [(500, None)] * 2 + [(401, "invalid_client")] * 2
    assert [outcome(client.refresh(token)) for _ in range(4)] == expected
    assert [one.error for one in fake.failures("token")] == ["invalid_client"]
    fake.recover("token")
    assert fake.failures("token") == []
    assert client.refresh(token).status_code == 200


def test_recover_forgets_the_failures_of_all_endpoints(fake: FakeServer) -> None:
    fake.fail("token", status=500)
    fake.fail("api", status=500)
    fake.recover()
    assert [fake.failures(name) for name in ENDPOINTS] == [[]] * len(ENDPOINTS)


def test_a_failed_request_does_not_spend_the_refresh_token(fake: FakeServer, client: Client) -> None:
    token = client.tokens()["refresh_token"]
    fake.fail("token", error="temporarily_unavailable", status=503)
    assert outcome(client.refresh(token)) == (503, "temporarily_unavailable")
    assert fake.holds(token)


def test_a_failed_authorization_returns_to_the_client_with_its_error(
    fake: FakeServer, client: Client
) -> None:
    fake.fail("authorization", error="temporarily_unavailable")
    callback = client.authorize()
    assert (callback["error"], callback["state"]) == ("temporarily_unavailable", "the state")


@pytest.mark.parametrize(
    ("error", "status"),
    [("invalid_token", 401), ("insufficient_scope", 403), ("invalid_request", 400), ("server_error", 400)],
)
def test_a_failed_call_has_the_error_in_its_challenge(
    fake: FakeServer, client: Client, error: str, status: int
) -> None:
    fake.fail("api", error=error)
    response = ask(fake, client, "api", client.tokens()["access_token"])
    assert response.status_code == status
    assert response.headers["WWW-Authenticate"] == f'Bearer error="{error}"'


@pytest.mark.parametrize(("body", "kind"), [("<html>", "text/plain"), ('{"a": 1}', "application/json")])
def test_a_failure_may_have_a_body_of_its_own(fake: FakeServer, client: Client, body: str, kind: str) -> None:
    fake.fail("token", status=200, body=body)
    response = client.refresh("any")
    assert (response.status_code, response.text) == (200, body)
    assert response.headers["Content-Type"].startswith(kind)


def test_a_lost_answer_has_spent_the_refresh_token(fake: FakeServer, client: Client) -> None:
    token = client.tokens()["refresh_token"]
    fake.fail("token", lost=True)
    with pytest.raises(requests.RequestException):
        client.refresh(token)
    assert not fake.holds(token)
    assert outcome(client.refresh(token)) == (400, "invalid_grant")  # a spent token ends the grant


def test_a_lost_answer_of_the_api_breaks_off_in_its_body(fake: FakeServer, client: Client) -> None:
    token = client.tokens()["access_token"]
    for content in ({"body": b""}, {"json": {"login": "octocat"}}):
        fake.answer_api("GET", "/user", **content)
        fake.fail("api", lost=True)
        with pytest.raises(requests.RequestException):
            ask(fake, client, "api", token)


def test_a_time_out_holds_the_answer_until_the_client_leaves(fake: FakeServer, client: Client) -> None:
    token = client.tokens()["refresh_token"]
    fake.fail("token", timeout=True)
    threads, came = {*threading.enumerate()}, len(fake.requests)
    with pytest.raises(requests.ReadTimeout):
        requests.post(
            client.metadata["token_endpoint"], data={"refresh_token": token}, timeout=(TIMEOUT, 0.1)
        )
    eventually(lambda: len(fake.requests) > came, "the request has come")
    eventually(lambda: {*threading.enumerate()} <= threads, "the thread of the held request ends")
    assert fake.holds(token)  # nothing was done
    assert client.refresh(token).status_code == 200


def test_a_stopped_server_frees_a_held_client() -> None:
    fake = FakeServer()
    fake.start()
    client = client_of(fake)
    fake.fail("token", timeout=True)
    found: list[Exception] = []

    def wait() -> None:
        try:
            client.refresh("any")
        except requests.RequestException as error:
            found.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    eventually(lambda: fake.requests[-1].path == "/token", "the request has come")
    began = time.monotonic()
    fake.stop()
    waiting.join(TIMEOUT)
    assert isinstance(found[0], requests.ConnectionError)
    assert time.monotonic() - began < TIMEOUT


@pytest.mark.parametrize(
    ("endpoint", "options", "message"),
    [
        (
            "tokens",
            {"status": 503},
            r"has no 'tokens'; did you mean 'token'\? \(it has: authorization, token,",
        ),
        ("token", {}, r"^Say how: status=503, error='invalid_grant', lost=True or timeout=True"),
        ("token", {"lost": True, "timeout": True}, "One failure at a time"),
        ("token", {"status": 503, "lost": True}, "One failure at a time"),
        ("token", {"lost": True, "retry_after": 3}, "give its status"),
        ("token", {"timeout": True, "body": "x"}, "give its status"),
        ("token", {"status": 42}, "not the status of an HTTP response"),
        ("token", {"status": 503, "times": 0}, "less than 1"),
    ],
)
def test_a_failure_that_makes_no_sense_is_refused(
    fake: FakeServer, endpoint: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fake.fail(endpoint, **options)


@pytest.mark.parametrize("ask_about", ["failures", "recover"])
def test_an_unknown_endpoint_is_refused(fake: FakeServer, ask_about: str) -> None:
    with pytest.raises(ValueError, match="has no 'nothing'"):
        getattr(fake, ask_about)("nothing")


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("/user", {"json": {}, "body": "x"}, "json or body, not both"),
        ("https://api.example/user", {"json": {}}, "must be a path below"),
        ("/user?page=1", {"json": {}}, "must be a path below"),
    ],
)
def test_an_answer_that_makes_no_sense_is_refused(
    fake: FakeServer, path: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fake.answer_api("GET", path, **options)
