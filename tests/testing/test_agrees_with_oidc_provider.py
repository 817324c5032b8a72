"""The fake provider answers as an authorization server by other people does: the same walk at both.

Compared are the status and the error code of each answer. So the fake cannot agree with defects of ours. One
thing differs: the fake provider knows no registered redirect URIs, so it needs one in each request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import requests

from oauth_connect.testing.server import FakeServer
from tests.interop.browser import Browser
from tests.interop.conftest import oidc_process  # noqa: F401  (a fixture)
from tests.servers.oidc_provider import CLIENT_SECRET, OIDCProvider
from tests.testing.oauth_client import TIMEOUT, Client, client_of, metadata_of, outcome, query_of

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"

Answers = list[object]
Walk = Callable[[Client], Answers]


@pytest.fixture
def fake_client() -> Iterator[Client]:
    with FakeServer() as fake:
        yield client_of(fake)


@pytest.fixture
def real_client(oidc_process: OIDCProvider) -> Client:  # noqa: F811
    def browse(url: str) -> dict[str, str]:
        with Browser(oidc_process.url) as browser:
            landed = browser.through(browser.get(url, timeout=TIMEOUT))
            return query_of(landed.headers.get("Location", ""))

    return Client(metadata_of(oidc_process.url), "web", CLIENT_SECRET, browse)


def succeeds(client: Client) -> Answers:
    callback = client.authorize()
    response = client.exchange(callback["code"])
    fields = response.json()
    refreshed = client.refresh(fields["refresh_token"])
    return [
        sorted(callback),
        callback["state"],
        callback["iss"] == client.metadata["issuer"],
        outcome(response),
        sorted(fields),
        fields["token_type"],
        sorted(fields["scope"].split()),
        response.headers["Cache-Control"],
        outcome(client.userinfo(fields["access_token"])),
        outcome(refreshed),
        sorted(refreshed.json()),
        refreshed.json()["refresh_token"] != fields["refresh_token"],
        outcome(client.userinfo(refreshed.json()["access_token"])),
    ]


def wrong_exchanges(client: Client) -> Answers:
    code = client.authorize()["code"]
    unknown = ("nobody", "secret")
    return [
        outcome(client.exchange("unknown")),
        outcome(client.exchange(client.authorize()["code"], code_verifier="another" * 8)),
        outcome(client.exchange(client.authorize()["code"], code_verifier=None)),
        outcome(client.exchange(client.authorize()["code"], redirect_uri="https://app.example/other/")),
        outcome(client.exchange(code, auth=(client.client_id, "wrong"))),
        outcome(client.exchange(code, auth=unknown)),
        outcome(client.exchange(code, grant_type="unknown")),
        outcome(client.exchange(code, grant_type=None)),
        outcome(client.exchange(None)),
        outcome(client.exchange(code)),
    ]


def code_used_twice(client: Client) -> Answers:
    code = client.authorize()["code"]
    fields = client.exchange(code).json()
    return [
        outcome(client.exchange(code)),
        outcome(client.refresh(fields["refresh_token"])),
        outcome(client.userinfo(fields["access_token"])),
    ]


def refresh_token_used_twice(client: Client) -> Answers:
    first = client.tokens()
    second = client.refresh(first["refresh_token"]).json()
    return [
        outcome(client.refresh(first["refresh_token"])),
        outcome(client.refresh(second["refresh_token"])),
        outcome(client.userinfo(second["access_token"])),
    ]


def refreshes_of_another_kind(client: Client) -> Answers:
    token = client.tokens()["refresh_token"]
    narrower = client.refresh(token, scope="openid offline_access")
    return [
        outcome(narrower),
        sorted(narrower.json()["scope"].split()),
        outcome(client.refresh("unknown")),
        outcome(client.refresh(narrower.json()["refresh_token"], scope="openid email")),
        outcome(client.post("token_endpoint", {"grant_type": "refresh_token"})),
    ]


def revocations(client: Client) -> Answers:
    first, second, third = client.tokens(), client.tokens(), client.tokens()
    return [
        outcome(client.revoke(first["access_token"])),
        outcome(client.userinfo(first["access_token"])),
        outcome(client.refresh(first["refresh_token"])),
        outcome(client.revoke(second["refresh_token"])),
        outcome(client.refresh(second["refresh_token"])),
        outcome(client.userinfo(second["access_token"])),
        outcome(client.userinfo(third["access_token"])),
        outcome(client.revoke("unknown")),
        outcome(client.revoke(None)),
        outcome(client.revoke("unknown", auth=(client.client_id, "wrong"))),
    ]


def wrong_authorization_requests(client: Client) -> Answers:
    without_pkce: dict[str, str | None] = {"code_challenge": None, "code_challenge_method": None}
    callbacks = [
        client.authorize(**without_pkce),
        client.authorize(code_challenge_method="plain"),
        client.authorize(response_type="unknown"),
    ]
    untrusted = [
        client.authorization_url(client_id="nobody"),
        client.authorization_url(redirect_uri="not-a-url"),
    ]
    pages = [requests.get(url, allow_redirects=False, timeout=TIMEOUT) for url in untrusted]
    return [
        *[(one["error"], one["state"], one["iss"] == client.metadata["issuer"]) for one in callbacks],
        *[page.status_code for page in pages],
    ]


def tokens_at_userinfo(client: Client) -> Answers:
    response = client.userinfo("unknown")
    return [outcome(response), response.headers["WWW-Authenticate"].split()[0]]


@pytest.mark.parametrize(
    "walk",
    [
        succeeds,
        wrong_exchanges,
        code_used_twice,
        refresh_token_used_twice,
        refreshes_of_another_kind,
        revocations,
        wrong_authorization_requests,
        tokens_at_userinfo,
    ],
)
def test_the_fake_answers_as_oidc_provider_does(walk: Walk, fake_client: Client, real_client: Client) -> None:
    assert walk(fake_client) == walk(real_client)


def test_the_fake_answers_a_device_as_oidc_provider_does(
    oidc_process: OIDCProvider,  # noqa: F811
) -> None:
    def walk(client: Client) -> Answers:
        started = client.post(
            "device_authorization_endpoint", {"scope": client.scope, "client_id": client.client_id}
        )
        fields = started.json()

        def poll(device_code: str) -> tuple[int, str | None]:
            asked = {"grant_type": DEVICE_CODE, "device_code": device_code, "client_id": client.client_id}
            return outcome(client.post("token_endpoint", dict(asked)))

        return [
            outcome(started),
            sorted({*fields} - {"interval"}),
            poll(fields["device_code"]),
            poll("unknown"),
            outcome(
                client.post("token_endpoint", {"grant_type": DEVICE_CODE, "client_id": client.client_id})
            ),
        ]

    with FakeServer() as fake:
        at_fake = walk(client_of(fake))
    nobody = Client(metadata_of(oidc_process.url), "terminal", "", lambda url: {})
    assert at_fake == walk(nobody)
