"""A site, its user's browser and a provider, going through a provider's golden exchanges.

The site's settings hold what a developer types: the preset's name, the client, and variables.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from oauth_connect import presets
from oauth_connect.conf import conf
from oauth_connect.flows import connect_path
from oauth_connect.models import Connection
from tests.contract.golden import Facts, fits, hosts_of, load, shown
from tests.contract.matching import authorization_differences, listed
from tests.contract.server import EveryProvider, Exchange
from tests.support.visitor import Visitor, callback_path, query_of

NEARLY = timedelta(seconds=30)


class Play:
    def __init__(
        self, provider: str, server: EveryProvider, visitor: Visitor, configure: Callable[..., None]
    ) -> None:
        self.provider = provider
        self.golden = load(provider)
        assert presets.load(provider), f"there is no preset {provider!r} yet"
        self.server = server
        self.visitor = visitor
        self.configure = configure
        self.said: dict[str, str] = {}  # what the user writes into the connect page
        self.type()

    def type(self, **more: Any) -> None:
        """Put into the settings what a developer types, more or other, and begin with nothing known."""
        typed = {**self.golden["settings"], **more}
        entry = {name: value for name, value in typed.items() if value}
        self.configure(PROVIDERS={self.provider: entry})
        client = {**typed, **self.golden.get("registered", {})}
        secret = client.get("client_secret") or conf.provider(self.provider).secret()
        self.facts = Facts(
            {
                "client_id": client["client_id"],
                "client_secret": secret,
                "code": self.golden["callback"][self.golden.get("code_parameter", "code")],
                "redirect_uri": f"https://app.example{callback_path(self.provider)}",
            }
        )
        self.server.begin(self.facts, hosts_of(self.golden))

    # --- connecting -----------------------------------------------------------------------------

    def path(self, scopes: Iterable[str] | None = None) -> str:
        """The path of the connect page, as the site's code asks for it."""
        asked = self.golden["authorization"]["scope"].get("asked", []) if scopes is None else scopes
        return connect_path(self.provider, scopes=asked)

    def start(self, scopes: Iterable[str] | None = None) -> str:
        """Press the button of the connect page; return the URL at the provider."""
        with self.server.playing(self.golden.get("registration", [])):
            return self.visitor.follow(self.path(scopes), self.said)

    def begin(self) -> str:
        """Start, and fail where the URL is not the documented one. Returns the state."""
        url = self.start()
        differing = authorization_differences(url, self.golden["authorization"], self.facts)
        assert not differing, "\n".join([f"the authorization URL differs: {url}", *differing])
        return query_of(url)["state"]

    def connect(
        self, exchanges: list[Exchange] | None = None, callback: Mapping[str, str | None] | None = None
    ) -> Any:
        """Connect by the golden exchanges or others; returns the response of the callback page."""
        state = self.begin()
        query = self.callback(state, callback or {})
        with self.server.playing(self.golden["connect"] if exchanges is None else exchanges):
            return self.come_back(query)

    def come_back(self, query: dict[str, str]) -> Any:
        """Bring the authorization response: by a redirect, or by a form that the browser posts."""
        if not self.golden.get("posted"):
            return self.visitor.come_back(self.provider, **query)
        response = self.visitor.post(callback_path(self.provider), query)
        assert response.status_code == 303, f"the posted response was not taken: {response.status_code}"
        return self.visitor.get(response["Location"])

    def callback(self, state: str, changes: Mapping[str, str | None]) -> dict[str, str]:
        """The query that the provider's redirect carries; ``None`` takes a parameter out of it."""
        query = {**self.golden["callback"], "state": state}
        signed = query.pop("hmac", None)
        if "timestamp" in query:
            query["timestamp"] = str(int(time.time()))
        unsigned = {name: value for name, value in changes.items() if name != "hmac"}
        query = {name: value for name, value in {**query, **unsigned}.items() if value is not None}
        if signed:
            query["hmac"] = self.signature(query)
            query |= {name: value for name, value in changes.items() if name == "hmac" and value is not None}
            if changes.get("hmac", "") is None:
                del query["hmac"]
        return query

    def signature(self, query: Mapping[str, str]) -> str:
        """HMAC-SHA256 over the sorted query with the app's secret, as Shopify signs its redirects."""
        message = urlencode(sorted(query.items()))
        secret = self.facts.values["client_secret"]
        return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()

    def connected(self) -> Connection:
        response = self.connect()
        assert response.status_code == 302, f"not connected: {response.status_code}, {refusal_of(response)}"
        return Connection.objects.get()

    # --- what must be so afterwards -------------------------------------------------------------

    def check_token(self, connection: Connection) -> None:
        """The row, read afresh, holds the tokens that the provider issued last."""
        stored = Connection.objects.get(pk=connection.pk)
        assert stored.status == Connection.Status.ACTIVE
        token = stored.token
        issued = self.facts.values
        assert token.access_token == issued["access_token"], "the access token is not the newest"
        expected = self.golden.get("refresh_token", issued.get("refresh_token", ""))
        assert fits(expected, token.refresh_token, self.facts), (
            f"refresh token: {token.refresh_token!r}, expected {shown(expected, self.facts)}"
        )

    def check_stored(self, connection: Connection, expected: Mapping[str, Any]) -> None:
        stored = Connection.objects.get(pk=connection.pk)
        obtained = stored.token.obtained_at
        for column, name in {
            "expires_at": "expires_in",
            "refresh_token_expires_at": "refresh_token_expires_in",
        }.items():
            if name in expected:
                check_moment(column, getattr(stored, column), obtained, expected[name])
        if "reconnect_before_days" in expected:
            seconds = expected["reconnect_before_days"] * 86400
            check_moment("reconnect_before", stored.reconnect_before, stored.created_at, seconds)
        for path, value in expected.get("kept", {}).items():
            assert kept(stored, path) == value, f"{path} of the token answer has not been kept"
        for name, value in expected.get("variables", {}).items():
            assert stored.variables.get(name) == value, (
                f"variables: {stored.variables}, expected {name} = {value}"
            )
        if "scopes" in expected:
            check_scopes(stored.scopes, expected["scopes"], self.facts)

    def check_account(self, connection: Connection) -> None:
        expected = self.golden["account"]
        for name, actual in {"id": connection.account_id, "label": connection.account_label}.items():
            assert fits(listed(expected[name]), actual, self.facts), (
                f"account {name}: {actual!r}, expected {shown(expected[name], self.facts)}"
            )


def check_moment(name: str, actual: datetime | None, since: datetime, seconds: float | None) -> None:
    if seconds is None:
        assert actual is None, f"{name}: {actual}, but the provider did not say"
        return
    assert actual is not None, f"{name}: nothing stored, expected {seconds} s after the token was obtained"
    assert abs(actual - since - timedelta(seconds=seconds)) < NEARLY, (
        f"{name}: {(actual - since).total_seconds():.0f} s after the token was obtained, expected {seconds} s"
    )


def check_scopes(stored: list[str], granted: list[str], facts: Facts) -> None:
    """What was granted is known, one scope by one, and nothing is made up."""
    missing = [scope for scope in granted if scope not in stored]
    made_up = [scope for scope in stored if scope not in granted and scope not in facts.scopes]
    assert not missing, f"scopes: {stored}, lacks {missing}"
    assert not made_up, f"scopes: {stored}, nobody granted {made_up}"


def kept(connection: Connection, path: str) -> Any:
    """Find a field of the token answer where it is kept: with the token, or in the open."""
    for place in (connection.token.extra, connection.variables, connection.extra):
        found: Any = place
        for key in path.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        if found is not None:
            return found
    return None


def refusal_of(response: Any) -> str:
    """The code of the page of a refused callback: the provider's own, where this package does not know it."""
    context = response.context or {}
    code = context.get("error") if context.get("code") == "other_error" else context.get("code", "")
    return str(code) if response.status_code != 302 else "connected"
