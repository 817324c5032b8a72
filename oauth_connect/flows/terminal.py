"""Logs in at a terminal: by the device flow (RFC 8628), or a browser on this machine (RFC 8252)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from django.core.exceptions import ImproperlyConfigured
from django.db import router

from oauth_connect.conf import conf
from oauth_connect.engine.revoke import revoke
from oauth_connect.errors import CallbackRefused, KeyUnavailable, ProtocolError, ProviderUnavailable
from oauth_connect.flows.account import Account
from oauth_connect.flows.authorize import asked_scopes
from oauth_connect.flows.choice import replaceable
from oauth_connect.flows.completion import (
    ChooseSite,
    Completion,
    exchanged_for_long_lived,
    initial_values,
    no_site,
    warn_if_no_refresh_token,
)
from oauth_connect.flows.grant_types import check_allowed, excluded
from oauth_connect.flows.other_tokens import OtherToken, OtherTokens, holds_token
from oauth_connect.flows.storage import is_shared, store_connection
from oauth_connect.models import Connection, Owner
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.device import DeviceAuthorization, await_token
from oauth_connect.protocol.grants.authorization_errors import refusal_of
from oauth_connect.protocol.grants.callback import check_issuer, read_callback
from oauth_connect.protocol.grants.requests import authorization_url, new_code_verifier
from oauth_connect.protocol.net.destination import browsable
from oauth_connect.protocol.net.loopback import (
    HOST,
    PATH,
    LoopbackRedirect,
    Pairs,
    PortUnavailable,
    redirect_uri,
)
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import DEVICE_CODE
from oauth_connect.protocol.templates import has_brace
from oauth_connect.protocol.token import Token
from oauth_connect.stores import keyring
from oauth_connect.tracebacks import methods_without_locals

BROWSER_TIMEOUT = 600.0  # seconds to wait for the response from the browser


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where the browser is redirected to. ``host`` is a key of ``loopback.HOSTS``. Port 0: any free port."""

    host: str = HOST
    port: int = 0
    path: str = PATH

    @property
    def uri(self) -> str:
        """Return the URI to register. For any free port it has no port (RFC 8252 section 7.3)."""
        return redirect_uri(self.host, self.port, self.path)


class TokenTarget(Protocol):
    """Stores the token of a login."""

    @property
    def owner(self) -> str:
        """The key of the owner whose provider settings apply; "" for settings without an owner."""

    def store(self, login: Login, token: Token, account: Account) -> None: ...

    def is_shared(self, login: Login, token: Token, account: Account | None) -> bool:
        """Return whether revoking the token could end a stored one: the token itself, or its grant."""

    def is_other_shared(self, other: OtherToken) -> bool:
        """Return the same for another token of the response."""


class UserConnectionTarget:
    """Stores the token as the user's connection. ``connection`` is None until then."""

    def __init__(self, user: Any) -> None:
        self._owner = Owner.of(user)
        self.connection: Connection | None = None

    @property
    def owner(self) -> str:
        return self._owner.key

    def replaceable(self, login: Login) -> list[Connection]:
        """Return the accounts that another one replaces, if the owner may have one at this provider."""
        declared = login.declared
        return replaceable(self._owner, declared.slug) if declared.one_account else []

    def store(self, login: Login, token: Token, account: Account) -> None:
        self.connection = store_connection(
            token,
            account,
            others=login.others.found,
            owner=self._owner,
            provider=login.declared.slug,
            grant=login.grant,
            redirect_uri=login.redirect_uri,
            requested_scopes=login.completion.consented,
            variables=dict(login.completion.values),
        )
        warn_if_no_refresh_token(self.connection, login.provider, token)

    def is_shared(self, login: Login, token: Token, account: Account | None) -> bool:
        return self._is_shared(login.provider, token, account, login.completion.values)

    def is_other_shared(self, other: OtherToken) -> bool:
        return self._is_shared(other.provider, other.token, other.account, other.completion.values)

    def _is_shared(
        self, provider: Provider, token: Token, account: Account | None, values: Mapping[str, str]
    ) -> bool:
        return self._has_stored(provider.slug, token) or is_shared(provider, self.owner, account, values)

    def _has_stored(self, slug: str, token: Token) -> bool:
        """Read the database: Ctrl-C may come after the commit, before this object knows of the row."""
        rows = Connection.objects.using(router.db_for_write(Connection)).for_owner(self._owner)
        active = rows.filter(provider=slug, status=Connection.Status.ACTIVE)
        return any(_holds(row, token) for row in active)


class KeyringTarget:
    """Stores the token in this machine's keyring. Raises KeyringUnavailable when it is created."""

    owner = ""

    def __init__(self) -> None:
        keyring.usable_backend()

    def store(self, login: Login, token: Token, account: Account) -> None:
        keyring.keep(
            login.declared,
            token,
            account=account.label,
            variables=login.completion.values,
            redirect_uri=login.redirect_uri,
            resolved=login.discovered,
            leeway=conf.refresh_leeway,
        )
        for other in login.others.found:
            keyring.keep(
                conf.declared_provider(other.provider.slug),
                other.token,
                account=other.account.label if other.account else "",
                variables=other.completion.values,
                redirect_uri=login.redirect_uri,
                resolved=other.completion.provider,
                leeway=conf.refresh_leeway,
            )

    def is_shared(self, login: Login, token: Token, account: Account | None) -> bool:
        return keyring.KeyringStore(login.declared).peek() is not None

    def is_other_shared(self, other: OtherToken) -> bool:
        return keyring.KeyringStore(other.provider).peek() is not None


@methods_without_locals
class Login:
    """One login at a provider. Raises ImproperlyConfigured, and InvalidProvider for a bad variable.

    ``scopes``: requested in addition to the provider's. ``variables``: the tenant, shop or instance.
    """

    grant = ""
    redirect_uri = ""
    nonce: str | None = None

    def __init__(
        self,
        slug: str,
        target: TokenTarget,
        *,
        scopes: Iterable[str] = (),
        variables: Mapping[str, str] | None = None,
        choose: ChooseSite = no_site,
    ) -> None:
        self.target = target
        self.declared = conf.declared_provider(slug, target.owner)
        if not self.declared.enabled:
            raise ImproperlyConfigured(f"{slug}.enabled: the provider is disabled in the settings.")
        self.discovered = conf.provider(slug, target.owner)
        values = initial_values(self.declared, variables or {}, None)
        self.completion = Completion(self.discovered, values, [], choose)
        self.provider = self.discovered.resolve_with_client(self.completion.values)
        self.scopes = asked_scopes(self.provider, scopes, None)
        self.others = OtherTokens(self.discovered, target.owner, values)

    def _server(self) -> AuthorizationServer:
        """Return the client; it revokes the tokens of a response that is unusable otherwise."""

        def revoke_unusable(token: Token) -> None:
            if holds_token(token) and not self.target.is_shared(self, token, None):
                revoke(server, token)
            with suppress(ProtocolError, ProviderUnavailable):
                self.others.take(token)
            self.others.revoke(self.target.is_other_shared)

        server = AuthorizationServer(self.provider, timeout=conf.http_timeout, on_unusable=revoke_unusable)
        return server

    def _identify_and_store(self, server: AuthorizationServer, token: Token) -> Account:
        """Find the token's account and store the token. If a step fails, revoke the token."""
        account = None
        try:
            token = self.others.take(token, self.completion.pairs)
            self.completion.read_token(server, token)
            token = self.completion.read_scopes(token, self.scopes)
            token = exchanged_for_long_lived(server, token)
            account = self.completion.find_account(server, token, nonce=self.nonce)
            self.provider = server.provider
            self.others.find_accounts()
            self.target.store(self, token, account)
        except BaseException:  # also Ctrl-C: a token that is not stored must not stay valid
            if not self.target.is_shared(self, token, account):
                revoke(server, token)
            self.others.revoke(self.target.is_other_shared)
            raise
        return account


@methods_without_locals
class DeviceLogin(Login):
    """A login with a code that the user enters on any device."""

    grant = Connection.Grant.DEVICE_CODE.value

    def run(
        self, show: Callable[[DeviceAuthorization], None], tick: Callable[[float], None] = lambda left: None
    ) -> Account:
        """Show the code to the user, wait until the user has entered it, and store the token.

        ``show`` gets the authorization to display, and ``tick`` the seconds left. Raises ProviderRejected
        (``access_denied``, ``expired_token``), the other errors of AuthorizationServer, and CallbackRefused
        where the account is unknown.
        """
        if not _has_device_flow(self.provider):
            raise ImproperlyConfigured(without_device_flow(self.declared.slug, self.target.owner))
        if has_brace(self.provider.token_endpoint):
            raise ImproperlyConfigured(
                f"{self.declared.slug}.token_endpoint: a variable of the callback decides it, and the device "
                "flow has no callback. Log in with --browser."
            )
        self.nonce = "" if "openid" in self.scopes else None
        with self._server() as server:
            authorization = server.authorize_device(self.scopes)
            show(authorization)
            token = await_token(server, authorization, scopes=self.scopes, tick=tick)
            return self._identify_and_store(server, token)


@methods_without_locals
class BrowserLogin(Login):
    """A login with a browser on this machine. The provider redirects it to a loopback address.

    ``redirect``: that address, for providers that compare redirect URIs exactly.
    """

    grant = Connection.Grant.AUTHORIZATION_CODE.value

    def __init__(self, *args: Any, redirect: Redirect | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.redirect = redirect or Redirect()

    def run(
        self,
        show: Callable[[str], None],
        tick: Callable[[float], None] = lambda left: None,
        *,
        timeout: float = BROWSER_TIMEOUT,
    ) -> Account:
        """Send the user's browser to the provider, wait for its response, and store the token.

        ``show`` gets the URL to open, and ``tick`` the seconds left. Raises CallbackRefused, and the errors
        of AuthorizationServer.
        """
        self.check()
        state = secrets.token_urlsafe(32)
        verifier = new_code_verifier()
        self.nonce = secrets.token_urlsafe(16) if "openid" in self.scopes else None
        with self._listen(state) as redirect:
            self.redirect_uri = redirect.redirect_uri
            show(browsable(self._authorization_url(state, verifier)))
            pairs = _wait_for_response(redirect, timeout, tick)
        self.completion.pairs = list(pairs)
        code = self._code()
        with self._server() as server:
            token = server.exchange_code(
                code=code, redirect_uri=self.redirect_uri, code_verifier=verifier, scopes=self.scopes
            )
            return self._identify_and_store(server, token)

    def _listen(self, state: str) -> LoopbackRedirect:
        where = self.redirect
        try:
            return LoopbackRedirect(state, host=where.host, port=where.port, path=where.path)
        except PortUnavailable as error:
            raise ImproperlyConfigured(
                f"Port {where.port} of {where.host} cannot be used ({error.strerror}). Stop the program that "
                "uses it, or choose another port and register its redirect URI at the provider."
            ) from None

    def check(self) -> None:
        """Raise ImproperlyConfigured where the provider's entry does not allow this login."""
        slug, rules = self.declared.slug, self.provider.authorize
        check_allowed(self.provider, "authorization_code")
        if not self.provider.authorization_endpoint:
            raise ImproperlyConfigured(
                f"{slug}.authorization_endpoint: missing. A login in the browser needs it."
            )
        if rules.response_mode == "form_post":
            raise ImproperlyConfigured(
                f"{slug}.authorize.response_mode: a login at a terminal cannot receive form_post."
            )
        if rules.code_challenge_method == "none":
            raise ImproperlyConfigured(
                f"{slug}.authorize.code_challenge_method: a login at a terminal needs PKCE with S256 "
                "(RFC 8252 section 8.1)."
            )

    def _authorization_url(self, state: str, verifier: str) -> str:
        return authorization_url(
            self.provider,
            redirect_uri=self.redirect_uri,
            state=state,
            scopes=self.scopes,
            code_verifier=verifier,
            nonce=self.nonce or "",
        )

    def _code(self) -> str:
        """Read the response and return its code. LoopbackRedirect has already checked the state."""
        callback = read_callback(self.completion.pairs, self.provider.callback.code_parameter)
        if not callback.error:  # an error response has no values of variables (RFC 6749 section 4.1.2.1)
            self.provider = self.completion.read_callback(self.provider)
        check_issuer(self.provider, callback.iss, several_servers=self.discovered.has_several_servers)
        if callback.error or not callback.code:
            raise refusal_of(self.provider, callback, self.redirect_uri)
        return callback.code


def has_device_flow(slug: str, owner: str = "") -> bool:
    """Return whether a provider offers the device flow. Raises as ``conf.provider``."""
    return _has_device_flow(conf.provider(slug, owner))


def _has_device_flow(provider: Provider) -> bool:
    return bool(provider.device_authorization_endpoint) and provider.allows(DEVICE_CODE)


def without_device_flow(slug: str, owner: str = "") -> str:
    """Return why a provider offers no device flow. Raises as ``conf.provider``."""
    if not conf.provider(slug, owner).allows(DEVICE_CODE):
        return excluded(slug, DEVICE_CODE)
    return (
        f"{slug}.device_authorization_endpoint: missing. The device flow needs it. Set it, or log in with "
        "--browser."
    )


def _holds(connection: Connection, token: Token) -> bool:
    try:
        return connection.token.access_token == token.access_token
    except KeyUnavailable:  # an older row; no key opens it
        return False


def _wait_for_response(redirect: LoopbackRedirect, timeout: float, tick: Callable[[float], None]) -> Pairs:
    left = timeout
    while left > 0:
        tick(left)
        if (pairs := redirect.wait(min(left, 1.0))) is not None:
            return pairs
        left -= 1.0
    raise CallbackRefused("The browser sent no response in time. Start again.", code="state_expired")
