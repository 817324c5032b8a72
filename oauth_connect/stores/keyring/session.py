"""The calls of a command-line tool: their token comes from the keyring, refreshed and written back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from oauth_connect.engine.refresh import Need, Refresh
from oauth_connect.engine.revoke import revoke
from oauth_connect.engine.store import ACTIVE, Row
from oauth_connect.errors import InvalidProvider, ReauthorizationRequired
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.session import ApiSession, TokenSource
from oauth_connect.protocol.token import Token
from oauth_connect.stores.keyring.account import HTTP_TIMEOUT, LEEWAY, is_same_server
from oauth_connect.stores.keyring.store import KeyringStore

API_TIMEOUT = 30.0  # seconds for each wait of an API call that names none
TOO_YOUNG = timedelta(minutes=1)


def session_for(
    provider: Provider,
    *,
    leeway: timedelta = LEEWAY,
    http_timeout: float = HTTP_TIMEOUT,
    api_timeout: float = API_TIMEOUT,
    resolved: Callable[[], Provider] | None = None,
) -> ApiSession:
    """Return a session with the token that this machine's keyring keeps for a provider.

    Raises as ``source_for``, and takes what that takes; ``api_timeout``: seconds for each wait of a call.
    """
    source = source_for(provider, leeway=leeway, http_timeout=http_timeout, resolved=resolved)
    return ApiSession(source, timeout=api_timeout)


def source_for(
    provider: Provider,
    *,
    leeway: timedelta = LEEWAY,
    http_timeout: float = HTTP_TIMEOUT,
    resolved: Callable[[], Provider] | None = None,
) -> TokenSource:
    """Return where calls get the token from that this machine's keyring keeps for a provider.

    Needs no Django settings. Any number of processes may share the token: one of them refreshes it, and the
    rotated one is written back before anybody uses it. ``resolved`` returns the provider with its endpoints,
    when a refresh needs them. Raises ReauthorizationRequired where nobody has logged in, KeyringUnavailable.
    """
    if provider.needs_discovery and resolved is None:
        raise InvalidProvider("token_endpoint: missing; outside of a site it is not discovered, name it")
    return KeyringSource(provider, resolved or (lambda: provider), leeway=leeway, http_timeout=http_timeout)


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
            raise self._required("not_connected", "Nobody has logged in on this machine.")
        self._login = login
        self.provider = provider.resolve(login["variables"])
        self._held: Row | None = None

    def current(self) -> Token:
        held = self._held
        if held is not None and held.token is not None and Need(self._leeway).met_by(held, datetime.now(UTC)):
            return held.token
        return self._obtain(Need(self._leeway))

    def renewed(self, rejected: Token) -> Token | None:
        """After a 401: what another process has saved meanwhile, else one refresh through the lease."""
        row = self._store.read()
        if row is None or row.token is None or row.status != ACTIVE:
            raise self._required("disconnected", "It has been logged out on this machine, or refused.")
        if row.token.access_token != rejected.access_token:
            self._held = row
            return row.token
        age = datetime.now(UTC) - rejected.obtained_at
        if not row.token.renewable or timedelta(0) <= age < TOO_YOUNG:
            return None
        return self._obtain(Need(self._leeway, newer_than=row.version))

    def _obtain(self, need: Need) -> Token:
        now = datetime.now(UTC)
        row = self._store.read()
        if row is None or not (row.status == ACTIVE and need.met_by(row, now)):
            row = self._refreshed(need)
        self._held = row
        assert row.token is not None  # noqa: S101  (the engine returns no other)
        return row.token

    def _refreshed(self, need: Need) -> Row:
        provider = self._resolved()
        try:
            with AuthorizationServer(provider, timeout=self._timeout) as server:
                return Refresh(self._store, server, need, leeway=self._leeway).obtain(self._held)
        except ReauthorizationRequired as error:
            raise self._required(error.reason, str(error)) from None

    def _resolved(self) -> Provider:
        """Return the provider at whose server the token was issued, never another one's of the same name."""
        login = self._store.login() or self._login  # another login may be at another instance
        provider = self._resolve().resolve_with_client(login["variables"])
        if not is_same_server(provider, login):
            raise self._required("client_changed", "Its token_endpoint is at another server now.")
        return provider

    def _revoke(self, token: Token) -> None:
        with AuthorizationServer(self._resolved(), timeout=self._timeout) as server:
            revoke(server, token)

    def _required(self, reason: str, why: str) -> ReauthorizationRequired:
        slug = self._declared.slug
        return ReauthorizationRequired(
            f"No usable token of {self._declared.label} in the keyring. {why} Log in: "
            f"manage.py oauth_login {slug} --store keyring",
            reason=reason,
        )
