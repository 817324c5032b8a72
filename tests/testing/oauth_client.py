"""A bare OAuth client, without a line of the package: it shows what a server answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

import requests

from oauth_connect.testing.server import CLIENT_ID, CLIENT_SECRET, FakeServer

VERIFIER = "a-verifier-of-the-tests-with-at-least-43-characters"
CHALLENGE = "8WRbRDP3abZm23Phhno2yBBd3zyopPVi3Nfv8FToV4Y"
CALLBACK = "https://app.example/oauth/oidc/callback/"
TIMEOUT = 60  # seconds


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


@dataclass
class Client:
    """``metadata``: the server's own. ``browse``: returns the authorization response for a URL."""

    metadata: dict[str, Any]
    client_id: str
    client_secret: str
    browse: Callable[[str], dict[str, str]]
    scope: str = "openid offline_access profile"

    def authorization_url(self, **changes: str | None) -> str:
        """Return the URL of an authorization request. None leaves a parameter out."""
        parameters = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "scope": self.scope,
            "state": "the state",
            "prompt": "consent",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            **changes,
        }
        sent = {name: value for name, value in parameters.items() if value is not None}
        return f"{self.metadata['authorization_endpoint']}?{urlencode(sent)}"

    def authorize(self, **changes: str | None) -> dict[str, str]:
        return self.browse(self.authorization_url(**changes))

    def post(
        self, endpoint: str, parameters: dict[str, str | None], auth: tuple[str, str] | None = None
    ) -> requests.Response:
        sent = {name: value for name, value in parameters.items() if value is not None}
        user, password = (self.client_id, self.client_secret) if auth is None else auth
        # Form-encoded, then Basic (RFC 6749 section 2.3.1). A client without a secret is a public one.
        credentials = (quote_plus(user), quote_plus(password)) if password else None
        return requests.post(self.metadata[endpoint], data=sent, auth=credentials, timeout=TIMEOUT)

    def exchange(
        self, code: str | None, auth: tuple[str, str] | None = None, **changes: str | None
    ) -> requests.Response:
        given: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
        }
        return self.post("token_endpoint", {**given, **changes}, auth)

    def tokens(self, **changes: str | None) -> dict[str, Any]:
        """Return the token response of a whole flow."""
        response = self.exchange(self.authorize(**changes)["code"])
        assert response.status_code == 200, response.text
        return dict(response.json())

    def refresh(
        self, token: str, auth: tuple[str, str] | None = None, **changes: str | None
    ) -> requests.Response:
        given: dict[str, str | None] = {"grant_type": "refresh_token", "refresh_token": token}
        return self.post("token_endpoint", {**given, **changes}, auth)

    def revoke(self, token: str | None, auth: tuple[str, str] | None = None) -> requests.Response:
        return self.post("revocation_endpoint", {"token": token}, auth)

    def userinfo(self, access_token: str) -> requests.Response:
        headers = {"Authorization": f"Bearer {access_token}"}
        return requests.get(self.metadata["userinfo_endpoint"], headers=headers, timeout=TIMEOUT)


def metadata_of(url: str) -> dict[str, Any]:
    found = requests.get(f"{url}/.well-known/openid-configuration", timeout=TIMEOUT)
    return dict(found.json())


def client_of(fake: FakeServer, account: str = "octocat") -> Client:
    """Return a client of a fake provider, at which this account consents to all."""

    def browse(url: str) -> dict[str, str]:
        fake.consent(account)
        response = requests.get(url, allow_redirects=False, timeout=TIMEOUT)
        return query_of(response.headers.get("Location", ""))

    return Client(metadata_of(fake.url), CLIENT_ID, CLIENT_SECRET, browse)


def outcome(response: requests.Response) -> tuple[int, str | None]:
    """Return the status and the error code."""
    try:
        document = response.json()
    except ValueError:
        return response.status_code, None
    return response.status_code, document.get("error") if isinstance(document, dict) else None
