"""Supplies the API calls of a command-line tool with a token from the keyring, and refreshes it there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from oauth_connect.engine.refresh import Need, Refresh
from oauth_connect.engine.refused_again import log_refused_again
from oauth_connect.engine.revoke import revoke
from oauth_connect.engine.store import ACTIVE, Row
from oauth_connect.errors import InvalidProvider, ReauthorizationRequired
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.session import ApiSession, TokenSource
from oauth_connect.protocol.token import Token
from oauth_connect.stores.keyring.account import HTTP_TIMEOUT, LEEWAY, is_same_server, variables_of
from oauth_connect.stores.keyring.store import KeyringStore
from oauth_connect.tracebacks import methods_without_locals, without_locals

API_TIMEOUT = 30.0  # seconds for each wait of an API call that passes no timeout


@without_locals
def session_for(
    provider: Provider,
    *,
    leeway: timedelta = LEEWAY,
    http_timeout: float = HTTP_TIMEOUT,
    api_timeout: float = API_TIMEOUT,
    resolved: Callable[[], Provider] | None = None,
) -> ApiSession:
    """Return a session with a provider's token from this machine's keyring.

    Parameters and errors are those of ``source_for``. ``api_timeout``: seconds for each wait of a call.
    """
    source = source_for(provider, leeway=leeway, http_timeout=http_timeout, resolved=resolved)
    return ApiSession(source, timeout=api_timeout)


@without_locals
def source_for(
    provider: Provider,
    *,
    leeway: timedelta = LEEWAY,
    http_timeout: float = HTTP_TIMEOUT,
    resolved: Callable[[], Provider] | None = None,
) -> TokenSource:
    """Return a TokenSource for a provider's token in this machine's keyring.

    Needs no Django settings. Several processes may share the token. One of them refreshes it, and stores the
    new token before any process uses it. ``resolved`` returns the provider with its endpoints, when a refresh
    needs them. Raises KeyringUnavailable, or ReauthorizationRequired if no user has logged in.
    """
    if provider.needs_discovery and resolved is None:
        raise InvalidProvider("token_endpoint: missing. It is not discovered outside of a site. Set it.")
    return KeyringSource(provider, resolved or (lambda: provider), leeway=leeway, http_timeout=http_timeout)


@methods_without_locals
class KeyringSource:
    """The TokenSource over a KeyringStore."""

    def __init__(
        self, provider: Provider, resolved: Callable[[], Provider], *, leeway: timedelta, http_timeout: float
    ) -> None:
        self._declared = provider
        self._resolve = resolved
        self._leeway = leeway
        self._timeout = http_timeout
        self._store = KeyringStore(provider, on_orphan=self._revoke)
        login = self._store.login()
        if login is None:
            raise self._required("not_connected", "No user has logged in on this machine.")
        self._login = login
        self._variables = login["variables"]
        self.provider = provider.resolve(self._variables)
        self._held: Row | None = None

    def current(self) -> Token:
        held = self._held
        if held is not None and held.token is not None and Need(self._leeway).met_by(held, datetime.now(UTC)):
            return held.token
        return self._obtain(Need(self._leeway))

    def renewed(self, rejected: Token) -> Token | None:
        """Return a new token after a 401: one that another process saved, or else one from a refresh."""
        row = self._store.read()
        if row is None or row.token is None or row.status != ACTIVE:
            return self._obtain(Need(self._leeway))  # raises, unless another process has just logged in
        if row.token.access_token != rejected.access_token:
            self._follow(row)
            return row.token
        if not row.token.renewable:
            return None
        if row.token.is_refused_again(datetime.now(UTC)) and not row.leased:
            log_refused_again((self._store.key, row.version), provider=self._declared.slug)
            return None
        return self._obtain(Need(self._leeway, newer_than=row.version, after_401=True))

    def _obtain(self, need: Need) -> Token:
        now = datetime.now(UTC)
        row = self._store.read()
        if row is None or not (row.status == ACTIVE and need.met_by(row, now)):
            row = self._refreshed(need)
        self._follow(row)
        assert row.token is not None  # noqa: S101  (the engine returns no row without one)
        return row.token

    def _follow(self, row: Row) -> None:
        """Hold a row, and continue at the instance that its token names. A later login may name another."""
        if self._held is not None and self._held.version != row.version:
            self._login = self._store.login() or self._login
        self._held = row
        variables = self._variables_at(self._login)
        if variables != self._variables:
            self._variables, self.provider = variables, self._declared.resolve(variables)

    def _variables_at(self, login: Mapping[str, Any]) -> dict[str, str]:
        token = self._held.token if self._held is not None else None
        return variables_of(self._declared, login, token)

    def _refreshed(self, need: Need) -> Row:
        provider = self._resolved()
        try:
            with AuthorizationServer(provider, timeout=self._timeout) as server:
                return Refresh(self._store, server, need, leeway=self._leeway).obtain(self._held)
        except ReauthorizationRequired as error:
            raise self._required(error.reason, str(error)) from None

    def _resolved(self) -> Provider:
        """Return the provider. Raise ReauthorizationRequired if its server did not issue the token."""
        login = self._store.login() or self._login  # another login may be at another instance
        provider = self._resolve().resolve_with_client(self._variables_at(login))
        if not is_same_server(provider, login):
            raise self._required("client_changed", "The token_endpoint is at another server now.")
        return provider

    def _revoke(self, token: Token) -> None:
        with AuthorizationServer(self._resolved(), timeout=self._timeout) as server:
            revoke(server, token)

    def _required(self, reason: str, explanation: str) -> ReauthorizationRequired:
        slug = self._declared.slug
        return ReauthorizationRequired(
            f"The keyring has no usable token of {self._declared.label}. {explanation} Log in: "
            f"manage.py oauth_login {slug} --store keyring",
            reason=reason,
        )
