"""Any request gets an answer: none ends in an error of the fake provider itself, and none ends the server."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlencode

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from oauth_connect.testing.server import FakeServer
from oauth_connect.testing.server.endpoints import ENDPOINTS, answer
from oauth_connect.testing.server.recorded import ReceivedRequest
from oauth_connect.testing.server.settings_entry import entry_for, provider_of
from oauth_connect.testing.server.state import State
from tests.testing.oauth_client import TIMEOUT, client_of

PRESETS = (None, "github", "slack", "shopify", "stripe", "tiktok", "reddit", "notion")
NAMES = (
    *("client_id", "client_secret", "grant_type", "code", "redirect_uri", "code_verifier", "scope", "state"),
    *(
        "refresh_token",
        "device_code",
        "token",
        "response_type",
        "response_mode",
        "code_challenge",
        "user_code",
    ),
    *("code_challenge_method", "request", "account", "form_token", "action", "grant", "access_token"),
)
VALUES = (
    *(
        "fake-client",
        "fake-secret",
        "authorization_code",
        "refresh_token",
        "client_credentials",
        "code",
        "S256",
    ),
    *(
        "urn:ietf:params:oauth:grant-type:device_code",
        "https://app.example/callback/",
        "form_post",
        "end",
        "²",
    ),
)
texts = st.text(max_size=20) | st.sampled_from(VALUES)
parameters = st.dictionaries(st.sampled_from(NAMES), texts, max_size=8)
headers = st.fixed_dictionaries(
    {},
    optional={
        "authorization": st.sampled_from(
            ["Basic", "Basic x", "Basic ZmFrZS1jbGllbnQ6ZmFrZS1zZWNyZXQ=", "Bearer x"]
        ),
        "content-type": st.sampled_from(
            ["application/json", "application/x-www-form-urlencoded", "text/x; a=b"]
        ),
        "accept": st.sampled_from(["application/json", "text/html", ""]),
    },
)
bodies = (
    parameters.map(lambda form: urlencode(form).encode()) | st.binary(max_size=40) | st.just(b'{"token": 1}')
)


@pytest.mark.parametrize("preset", PRESETS)
def test_any_parameters_are_answered(preset: str | None) -> None:
    with FakeServer() as fake:
        provider = provider_of(preset, entry_for(fake, preset)) if preset else None

    @given(
        st.sampled_from(["GET", "POST", "DELETE"]),
        st.sampled_from(sorted(ENDPOINTS)),
        parameters,
        headers,
        bodies,
    )
    def check(method: str, path: str, query: dict[str, str], sent: dict[str, str], body: bytes) -> None:
        state = State(["octocat"], 3600)
        state.url = "http://127.0.0.1:9000"
        state.serve(provider)
        request = ReceivedRequest(method, path, query, {"host": "127.0.0.1:9000", **sent}, body)
        assert 200 <= answer(state, request).status < 500
        assert repr(request).startswith(f"<ReceivedRequest {method} {path} (")

    check()


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"POST /token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"BREW /token HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_and_the_server_goes_on(fake: FakeServer, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", int(fake.url.rpartition(":")[2])), TIMEOUT) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answered = b"".join(iter(lambda: connection.recv(4096), b""))
    assert not answered or answered.split()[1].startswith((b"4", b"5"))
    assert client_of(fake).tokens()


def test_a_body_in_chunks_is_read(fake: FakeServer) -> None:
    chunks = iter(
        [b"grant_type=client_credentials&", b"client_id=fake-client&", b"client_secret=fake-secret"]
    )
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    response = requests.post(f"{fake.url}/token", data=chunks, headers=kind, timeout=TIMEOUT)
    assert response.status_code == 200
    assert fake.requests[-1].form["grant_type"] == "client_credentials"


def test_head_has_the_length_of_get_and_no_body(fake: FakeServer) -> None:
    fake.answer_api("GET", "/user", json={"login": "octocat"})
    token = client_of(fake).tokens()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    response = requests.head(f"{fake.api_base_url}user", headers=headers, timeout=TIMEOUT)
    assert (response.status_code, response.headers["Content-Length"], response.content) == (200, "20", b"")


def exchanged(fake: FakeServer, sent: bytes) -> bytes:
    """Send bytes on one connection, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", int(fake.url.rpartition(":")[2])), TIMEOUT) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(4096), b""))


def test_a_target_that_is_no_url_is_answered(fake: FakeServer) -> None:
    answered = exchanged(fake, b"GET http://[/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answered.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_leaves_the_connection_usable(fake: FakeServer, status: int) -> None:
    fake.fail("token", status=status)
    first = b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    answered = exchanged(fake, first + b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"\r\n\r\nHTTP/1.1 404 " in answered


def test_half_a_request_does_nothing(fake: FakeServer) -> None:
    """A client that goes away in its request must find its refresh token unspent."""
    client = client_of(fake)
    tokens = client.tokens()
    form = urlencode(
        {
            "grant_type": "refresh_token",
            "refresh_token": tokens["refresh_token"],
            "client_id": client.client_id,
            "client_secret": client.client_secret,
        }
    ).encode()
    head = f"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: {len(form) + 1}\r\n\r\n".encode()
    assert b" 200 " not in exchanged(fake, head + form)
    assert client.refresh(tokens["refresh_token"]).status_code == 200


def test_half_a_surrogate_pair_is_refused_and_no_defect(fake: FakeServer) -> None:
    kind = {"Content-Type": "application/json"}
    body = b'{"client_id": "\\ud800", "client_secret": "x"}'
    assert requests.post(f"{fake.url}/token", data=body, headers=kind, timeout=TIMEOUT).status_code == 401


def test_introspection_names_the_expiry_of_the_token_in_question() -> None:
    state = State(["octocat"], 60)
    grant = state.grants.new_grant(state.rules, state.accounts[0], (), state.rules.client_id)
    older = state.grants.issue(grant)["access_token"]
    state.grants.lifetime = 7200
    newer = state.grants.issue(grant)["access_token"]

    def expiry(token: str) -> int:
        form = {"token": token, "client_id": "fake-client", "client_secret": "fake-secret"}
        kind = {"content-type": "application/x-www-form-urlencoded"}
        response = answer(state, ReceivedRequest("POST", "/introspect", {}, kind, urlencode(form).encode()))
        return int(json.loads(response.body)["exp"])

    assert expiry(newer) - expiry(older) > 7000
