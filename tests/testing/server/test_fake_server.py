"""The fake provider keeps to the RFCs: codes, PKCE, rotation, reuse detection, revocation, devices."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
import requests

from oauth_connect.testing.server import CLIENT_ID, Account, FakeServer, UnknownToken, devices, recorded
from tests.support.waiting import eventually
from tests.testing.oauth_client import CALLBACK, TIMEOUT, Client, client_of, outcome, query_of

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


def call(fake: FakeServer, path: str, access_token: str = "", method: str = "GET") -> requests.Response:
    headers = {"Authorization": f"Bearer {access_token}"} if access_token else {}
    return requests.request(method, f"{fake.api_base_url}{path}", headers=headers, timeout=TIMEOUT)


# --- the authorization request ----------------------------------------------------------------------


def test_an_authorization_response_repeats_the_state_and_names_the_issuer(
    fake: FakeServer, client: Client
) -> None:
    callback = client.authorize(state="a state + & =")
    assert {**callback, "code": ""} == {"code": "", "state": "a state + & =", "iss": fake.url}


def test_a_query_of_the_redirect_uri_stays(client: Client) -> None:
    assert client.authorize(redirect_uri=f"{CALLBACK}?tenant=1")["tenant"] == "1"


def test_a_denied_request_returns_to_the_client(fake: FakeServer, client: Client) -> None:
    fake.deny()
    response = requests.get(client.authorization_url(), allow_redirects=False, timeout=TIMEOUT)
    callback = query_of(response.headers["Location"])
    assert (callback["error"], callback["state"]) == ("access_denied", "the state")


def test_a_user_may_grant_less_than_requested(fake: FakeServer, client: Client) -> None:
    fake.consent("octocat", ["openid"])
    response = requests.get(client.authorization_url(), allow_redirects=False, timeout=TIMEOUT)
    code = query_of(response.headers["Location"])["code"]
    assert client.exchange(code).json()["scope"] == "openid"


def test_consents_are_used_in_the_order_in_which_they_were_given(fake: FakeServer, client: Client) -> None:
    fake.consent("hubot")
    tokens = [client.tokens() for _ in range(2)]  # each gives a consent of octocat, too
    names = [client.userinfo(one["access_token"]).json()["name"] for one in tokens]
    assert names == ["hubot", "octocat"]


WRONG_URIS = (
    "ftp://app.example/",
    "http://[",
    "http://app.example/\N{RIGHTWARDS ARROW}",
    "http://app.example/\r\n",
)


@pytest.mark.parametrize(
    "changes",
    [{"client_id": "nobody"}, {"redirect_uri": None}, *({"redirect_uri": uri} for uri in WRONG_URIS)],
)
def test_a_client_that_cannot_be_trusted_gets_a_page_and_no_redirect(
    client: Client, changes: dict[str, Any]
) -> None:
    response = requests.get(client.authorization_url(**changes), allow_redirects=False, timeout=TIMEOUT)
    assert response.status_code == 400
    assert "Location" not in response.headers
    assert "text/html" in response.headers["Content-Type"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
    ],
)
def test_a_wrong_authorization_request_returns_with_an_error(
    client: Client, changes: dict[str, Any], error: str
) -> None:
    callback = client.authorize(**changes)
    assert (callback["error"], callback["state"]) == (error, "the state")


# --- the code ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"code_verifier": "another-verifier-" * 4}, (400, "invalid_grant")),
        ({"code_verifier": None}, (400, "invalid_grant")),
        ({"redirect_uri": "https://app.example/other/"}, (400, "invalid_grant")),
        ({"redirect_uri": None}, (400, "invalid_grant")),
        ({"grant_type": "password"}, (400, "unsupported_grant_type")),
        ({"grant_type": None}, (400, "invalid_request")),
        ({"auth": (CLIENT_ID, "wrong")}, (401, "invalid_client")),
        ({"auth": ("nobody", "secret")}, (401, "invalid_client")),
        ({"auth": ("", "")}, (401, "invalid_client")),
    ],
)
def test_a_wrong_exchange_is_refused_and_the_right_one_still_works(
    client: Client, changes: dict[str, Any], expected: tuple[int, str]
) -> None:
    code = client.authorize()["code"]
    assert outcome(client.exchange(code, **changes)) == expected
    assert client.exchange(code).status_code == 200


def test_a_code_is_used_once_and_a_second_use_ends_what_it_gave(fake: FakeServer, client: Client) -> None:
    code = client.authorize()["code"]
    tokens = client.exchange(code).json()
    assert outcome(client.exchange(code)) == (400, "invalid_grant")
    assert not fake.holds(tokens["access_token"])
    assert outcome(client.refresh(tokens["refresh_token"])) == (400, "invalid_grant")


def test_the_secret_may_be_in_the_body(client: Client) -> None:
    fields = {"client_id": client.client_id, "client_secret": client.client_secret}
    assert client.exchange(client.authorize()["code"], auth=("", ""), **fields).status_code == 200


def test_a_secret_in_the_url_is_not_read(client: Client) -> None:
    """It would be in the logs of every proxy (RFC 6749 section 2.3.1)."""
    sent = {
        "grant_type": "client_credentials",
        "client_id": client.client_id,
        "client_secret": client.client_secret,
    }
    response = requests.post(client.metadata["token_endpoint"], params=sent, timeout=TIMEOUT)
    assert outcome(response) == (401, "invalid_client")


def test_a_client_that_authenticates_in_two_ways_is_refused(client: Client) -> None:
    """RFC 6749 section 2.3. The error code is that of section 5.2."""
    refused = client.exchange(client.authorize()["code"], client_secret=client.client_secret)
    assert outcome(refused) == (400, "invalid_request")
    revoked = client.post("revocation_endpoint", {"token": "x", "client_secret": client.client_secret})
    assert outcome(revoked) == (400, "invalid_request")


def test_a_token_response_must_not_be_cached(client: Client) -> None:
    assert client.exchange(client.authorize()["code"]).headers["Cache-Control"] == "no-store"


def test_the_token_endpoint_takes_no_get(client: Client) -> None:
    response = requests.get(client.metadata["token_endpoint"], timeout=TIMEOUT)
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")


# --- refresh tokens ----------------------------------------------------------------------------------


def test_a_refresh_rotates_and_older_access_tokens_stay_valid(fake: FakeServer, client: Client) -> None:
    first = client.tokens()
    second = client.refresh(first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert [fake.holds(one["access_token"]) for one in (first, second)] == [True, True]
    assert [fake.holds(one["refresh_token"]) for one in (first, second)] == [False, True]


def test_a_spent_refresh_token_ends_its_family_and_no_other(fake: FakeServer, client: Client) -> None:
    first, other = client.tokens(), client.tokens()
    second = client.refresh(first["refresh_token"]).json()
    assert outcome(client.refresh(first["refresh_token"])) == (400, "invalid_grant")
    assert outcome(client.refresh(second["refresh_token"])) == (400, "invalid_grant")
    assert not fake.holds(second["access_token"])
    assert fake.holds(other["access_token"])


def test_of_32_refreshes_in_parallel_one_gets_the_next_token(
    client: Client, calls_at_once: Callable[..., list[Any]]
) -> None:
    token = client.tokens()["refresh_token"]
    responses = calls_at_once(32, lambda: client.refresh(token))
    assert sorted(outcome(one) for one in responses) == [(200, None), *[(400, "invalid_grant")] * 31]


def test_32_clients_in_parallel_are_all_answered(
    fake: FakeServer, client: Client, calls_at_once: Callable[..., list[Any]]
) -> None:
    fake.answer_api("GET", "/user", json={"login": "octocat"})
    before = len(fake.requests)
    token = client.tokens()["access_token"]
    responses = calls_at_once(32, lambda: call(fake, "user", token))
    assert [one.json() for one in responses] == [{"login": "octocat"}] * 32
    assert len(fake.requests) == before + 2 + 32


def test_a_refresh_may_narrow_the_scopes_and_not_widen_them(client: Client) -> None:
    token = client.tokens(scope="read write")["refresh_token"]
    narrower = client.refresh(token, scope="read").json()
    assert narrower["scope"] == "read"
    wider = client.refresh(narrower["refresh_token"], scope="read write admin")
    assert outcome(wider) == (400, "invalid_scope")
    assert client.refresh(narrower["refresh_token"]).json()["scope"] == "read write"


# --- the end of tokens -------------------------------------------------------------------------------


def test_an_expired_access_token_is_refused_and_its_refresh_token_works(
    fake: FakeServer, client: Client
) -> None:
    tokens = client.tokens()
    fake.expire(tokens["access_token"])
    response = call(fake, "user", tokens["access_token"])
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert client.refresh(tokens["refresh_token"]).status_code == 200


def test_an_access_token_expires_after_its_lifetime() -> None:
    with FakeServer(lifetime=0) as fake:
        tokens = client_of(fake).tokens()
        assert tokens["expires_in"] == 0
        assert not fake.holds(tokens["access_token"])


@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
def test_an_ended_grant_needs_the_user(fake: FakeServer, client: Client, name: str) -> None:
    tokens = client.tokens()
    fake.end_grant(tokens[name])
    assert call(fake, "user", tokens["access_token"]).status_code == 401
    assert outcome(client.refresh(tokens["refresh_token"])) == (400, "invalid_grant")


def test_a_token_of_another_fake_is_named_as_unknown(fake: FakeServer) -> None:
    with FakeServer() as other:
        token = client_of(other).tokens()["access_token"]
    for end in (fake.expire, fake.end_grant):
        with pytest.raises(UnknownToken, match="has not issued this token") as caught:
            end(token)
        assert token not in str(caught.value)


def test_a_revoked_refresh_token_ends_its_grant(fake: FakeServer, client: Client) -> None:
    tokens, other = client.tokens(), client.tokens()
    assert client.revoke(tokens["refresh_token"]).status_code == 200
    assert not fake.holds(tokens["access_token"])
    assert not fake.holds(tokens["refresh_token"])
    assert fake.holds(other["refresh_token"])


def test_a_revocation_of_an_unknown_token_succeeds_and_one_by_a_stranger_does_not(client: Client) -> None:
    token = client.tokens()["refresh_token"]
    assert client.revoke("unknown").status_code == 200
    assert outcome(client.revoke(token, auth=(CLIENT_ID, "wrong"))) == (401, "invalid_client")
    assert client.refresh(token).status_code == 200


def test_issue_gives_a_token_without_a_flow(fake: FakeServer, client: Client) -> None:
    tokens = fake.issue("hubot", ["read"])
    assert tokens["scope"] == "read"
    assert client.userinfo(tokens["access_token"]).json()["name"] == "hubot"
    assert client.refresh(tokens["refresh_token"]).status_code == 200


# --- what a token opens ------------------------------------------------------------------------------


def test_userinfo_names_the_account_by_an_id_that_stays(fake: FakeServer, client: Client) -> None:
    account = client.userinfo(client.tokens()["access_token"]).json()
    with FakeServer() as other:
        again = client_of(other)
        assert again.userinfo(again.tokens()["access_token"]).json()["sub"] == account["sub"]
    assert account["email"] == "octocat@example.com"


def test_introspection_describes_a_valid_token_only(fake: FakeServer, client: Client) -> None:
    token = client.tokens(scope="read")["access_token"]
    found = client.post("introspection_endpoint", {"token": token}).json()
    assert (found["active"], found["username"], found["scope"]) == (True, "octocat", "read")
    fake.expire(token)
    assert client.post("introspection_endpoint", {"token": token}).json() == {"active": False}
    wrong = client.post("introspection_endpoint", {"token": token}, (CLIENT_ID, "wrong"))
    assert outcome(wrong) == (401, "invalid_client")


def test_the_clients_own_token_has_no_refresh_token(fake: FakeServer, client: Client) -> None:
    response = client.post("token_endpoint", {"grant_type": "client_credentials", "scope": "reports"})
    assert sorted(response.json()) == ["access_token", "expires_in", "scope", "token_type"]
    assert fake.holds(response.json()["access_token"])


def test_answers_of_the_api_come_in_order_and_the_last_one_stays(fake: FakeServer, client: Client) -> None:
    token = client.tokens()["access_token"]
    fake.answer_api("GET", "/user", json={"page": 1}, headers={"X-Left": "1"})
    fake.answer_api("get", "user", status=404, body="gone")
    first, *others = [call(fake, "user", token) for _ in range(3)]
    assert (first.json(), first.headers["X-Left"]) == ({"page": 1}, "1")
    assert [(one.status_code, one.text) for one in others] == [(404, "gone")] * 2


def test_an_api_path_without_an_answer_says_how_to_add_one(fake: FakeServer, client: Client) -> None:
    fake.answer_api("GET", "/user", json={})
    response = call(fake, "repos/1", client.tokens()["access_token"], "POST")
    assert outcome(response) == (404, "no_answer")
    assert 'fake.api("POST", "/repos/1", json=...)' in response.json()["message"]
    assert "GET /user" in response.json()["message"]
    with pytest.raises(requests.HTTPError, match="the fake API has no answer for this path"):
        response.raise_for_status()


def test_the_api_needs_a_token(fake: FakeServer) -> None:
    response = call(fake, "user")
    assert response.status_code == 401
    assert "error=" not in response.headers["WWW-Authenticate"]  # RFC 6750 section 3.1


def test_an_unknown_path_says_which_paths_there_are(fake: FakeServer) -> None:
    response = requests.get(f"{fake.url}/oauth/token", timeout=TIMEOUT)
    assert outcome(response) == (404, "unknown_path")
    assert "/token" in response.json()["message"]


# --- devices -----------------------------------------------------------------------------------------


def start_device(client: Client) -> dict[str, Any]:
    return dict(
        client.post("device_authorization_endpoint", {"client_id": client.client_id, "scope": "read"}).json()
    )


def poll(client: Client, device_code: str) -> requests.Response:
    return client.post("token_endpoint", {"grant_type": DEVICE_CODE, "device_code": device_code})


def test_a_device_waits_is_slowed_down_and_gets_its_token_once(
    fake: FakeServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "INTERVAL", 3600)  # a second request is too early, on any machine
    started = start_device(client)
    assert outcome(poll(client, started["device_code"])) == (400, "authorization_pending")
    assert outcome(poll(client, started["device_code"])) == (400, "slow_down")
    page = requests.get(started["verification_uri_complete"], timeout=TIMEOUT)
    number = page.text.partition('name="request" value="')[2].partition('"')[0]
    decision = {"request": number, "account": "hubot", "scope_0": "read"}
    requests.post(started["verification_uri"], data=decision, timeout=TIMEOUT).raise_for_status()
    tokens = poll(client, started["device_code"]).json()
    assert client.userinfo(tokens["access_token"]).json()["name"] == "hubot"
    assert outcome(poll(client, started["device_code"])) == (400, "invalid_grant")


def test_a_device_may_be_denied_or_consented_to_without_a_person(fake: FakeServer, client: Client) -> None:
    fake.deny()
    assert outcome(poll(client, start_device(client)["device_code"])) == (400, "access_denied")
    fake.consent("octocat")
    assert poll(client, start_device(client)["device_code"]).json()["scope"] == "read"


def test_a_device_code_expires(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "LIFETIME", 0)
    assert outcome(poll(client, start_device(client)["device_code"])) == (400, "expired_token")


# --- the server --------------------------------------------------------------------------------------


def test_received_requests_show_names_and_no_value(fake: FakeServer, client: Client) -> None:
    tokens = client.tokens()
    requests.post(
        f"{fake.api_base_url}user?page=2",
        json={"secret_of_the_site": "value"},
        headers={"Authorization": f"Bearer {tokens['access_token']}"},
        timeout=TIMEOUT,
    )
    *_, authorization, exchange, api = fake.requests
    assert (authorization.method, authorization.path) == ("GET", "/authorize")
    assert exchange.form["grant_type"] == "authorization_code"
    assert (api.query, api.json) == ({"page": "2"}, {"secret_of_the_site": "value"})
    assert api.headers["authorization"].startswith("Bearer ")
    assert repr(api) == "<ReceivedRequest POST /api/user (page, secret_of_the_site)>"
    shown = repr(fake.requests) + repr(fake)
    for secret in (*tokens.values(), exchange.form["code"], client.client_secret, "value"):
        assert str(secret) not in shown


def test_requests_is_a_copy(fake: FakeServer, client: Client) -> None:
    fake.requests.clear()
    assert len(fake.requests) == 1  # the metadata


def test_a_server_that_runs_for_days_keeps_no_requests() -> None:
    with FakeServer(keeps_requests=False) as server:
        requests.get(server.url, timeout=TIMEOUT)
        assert server.requests == []


def test_a_body_that_is_no_json_has_none() -> None:
    assert recorded.ReceivedRequest("POST", "/x", body=b"[").json is None


def test_a_stopped_server_frees_its_port_and_its_threads(fake: FakeServer) -> None:
    before = {*threading.enumerate()}
    other = FakeServer()
    other.start()
    port = int(other.url.rpartition(":")[2])
    kept = requests.Session()  # keeps its connection, whose thread must end too
    kept.get(f"{other.url}/nothing", timeout=TIMEOUT)
    other.stop()
    other.stop()
    eventually(lambda: {*threading.enumerate()} <= before, "its threads end")
    kept.close()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_it_answers_on_one_loopback_address_only(fake: FakeServer) -> None:
    with socket.socket() as probe:
        probe.settimeout(TIMEOUT)
        assert probe.connect_ex(("127.0.0.2", int(fake.url.rpartition(":")[2]))) != 0


def test_a_port_in_use_is_an_error(fake: FakeServer) -> None:
    with pytest.raises(OSError, match="in use"):
        FakeServer(port=int(fake.url.rpartition(":")[2])).start()


def test_a_server_that_is_not_started_says_so() -> None:
    with pytest.raises(RuntimeError, match=r"Call start\(\)"):
        FakeServer().endpoints()


def test_an_account_that_is_not_there_is_named(fake: FakeServer) -> None:
    with pytest.raises(ValueError, match=r"has no 'mallory' \(it has: octocat, hubot\)"):
        fake.consent("mallory")


@pytest.mark.parametrize("accounts", ["octocat", [], [""], ["ada", "ada"]])
def test_accounts_that_are_none_are_refused(accounts: Any) -> None:
    with pytest.raises(ValueError, match="accounts: "):
        FakeServer(accounts=accounts)


def test_a_string_of_scopes_is_refused(fake: FakeServer) -> None:
    for grant in (fake.consent, fake.issue):
        with pytest.raises(TypeError, match=r"pass a list such as \['repo'\]"):
            grant("octocat", "repo")


def test_an_account_may_bring_its_id() -> None:
    with FakeServer(accounts=[Account(id="7", name="ada")]) as fake:
        client = client_of(fake, "ada")
        assert client.userinfo(client.tokens()["access_token"]).json()["sub"] == "7"


def test_a_defect_is_answered_without_a_secret(
    fake: FakeServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise KeyError(client.client_secret)

    code = client.authorize()["code"]
    monkeypatch.setattr("oauth_connect.testing.server.grants.Grants.redeem", broken)
    response = client.exchange(code)
    assert outcome(response) == (500, "internal_error")
    assert "KeyError at" in response.text
    assert client.client_secret not in response.text
