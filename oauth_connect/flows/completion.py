"""Finds the values of a provider's variables during a flow: its tenant, shop or instance."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from oauth_connect.errors import CallbackRefused, InvalidProvider, ProviderRejected
from oauth_connect.flows.account import Account, Site, accessible_sites, identify
from oauth_connect.flows.typed_values import typed_value
from oauth_connect.models import Connection
from oauth_connect.models.row import UNDECIDED
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.grants import callback, scopes
from oauth_connect.protocol.grants.error_codes import shown
from oauth_connect.protocol.paths import pick
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import Variable
from oauth_connect.protocol.token import Token
from oauth_connect.tracebacks import without_locals

logger = logging.getLogger("oauth_connect")
ChooseSite = Callable[[Account, Sequence[Site]], Site | None]


@without_locals
def asked_variables(provider: Provider, connection: Connection | None = None) -> dict[str, Variable]:
    """Return the variables that the user must fill in; those that the connection has are left out."""
    stored = connection.variables if connection else {}
    asked = provider.asked_of("user")
    return {name: variable for name, variable in asked.items() if not stored.get(name)}


def initial_values(
    provider: Provider, given: Mapping[str, Any], connection: Connection | None
) -> dict[str, str]:
    """Return the values that a flow starts with. Raises InvalidProvider with the path of a wrong value."""
    asked = provider.asked_of("user")
    stored = connection.variables if connection else {}
    for name in given:
        if name not in asked:
            raise InvalidProvider(
                f"{provider.slug}.variables.{name}: users do not enter a variable of this name"
            )
    return {
        name: provider.value_of(name, stored[name])
        if stored.get(name)
        else typed_value(provider, name, given.get(name) or variable.default)
        for name, variable in asked.items()
    }


def no_site(account: Account, sites: Sequence[Site]) -> Site | None:
    """Choose none of several sites. The user chooses one later, on a page."""
    return None


class Completion:
    """Collects the values of the variables from the responses of a flow, step by step, in ``values``.

    ``provider`` is not resolved: its variables have no values. Every method may raise CallbackRefused.
    ``consented``: the requested scopes that the user has not visibly refused, once the token was read.
    ``choose``: chooses one of several sites that the token can access, or none. Then the user must.
    """

    def __init__(
        self,
        provider: Provider,
        initial: Mapping[str, str],
        pairs: Iterable[tuple[str, str]],
        choose: ChooseSite = no_site,
    ) -> None:
        self.provider = provider
        self.pairs = list(pairs)
        self.values = dict(initial)
        self.consented: list[str] = []
        self.choose = choose

    def read_callback(self, started: Provider) -> Provider:
        """Check the callback's signature and the values it must repeat; add its new values.

        Return the provider with them, because they may decide the token endpoint. ``started`` is the provider
        as it was at the start. The client must still be the same, because the code is for that client.
        """
        callback.check_signature(self.provider, self.pairs)
        found = callback.callback_values(self.provider, self.pairs, self.values)
        if found.items() <= self.values.items():
            return started
        self.values |= found
        try:
            provider = self.provider.resolve_with_client(self.values)
        except InvalidProvider as error:
            raise CallbackRefused(str(error), code="variable_refused") from None
        if provider.client_id != started.client_id:
            raise CallbackRefused("The callback is for another client. Start again.", code="provider_changed")
        return provider

    def read_token(self, server: AuthorizationServer, token: Token) -> None:
        """Add the values of the token response, and let the server use that instance's endpoints."""
        for name, variable in self.provider.asked_of("token_response").items():
            self._add(name, pick(token.extra, [variable.field or name]))
        self._move(server)

    def read_scopes(self, token: Token, requested: Iterable[str]) -> Token:
        """Note what the user has consented to. Return the token without scopes that the user refused."""
        self.consented = scopes.consented_scopes(self.provider, token, requested, self.pairs)
        return scopes.without_refused(token, self.consented)

    def find_account(self, server: AuthorizationServer, token: Token, *, nonce: str | None) -> Account:
        """Return the account. Add the values of the document that names it, and of the second request."""
        account = identify(server, token, nonce=nonce, parameters=dict(self.pairs))
        if named := self.provider.asked_of("identity"):
            for name, variable in named.items():
                self._add(name, pick(account.document, [variable.field or name]))
            self._move(server)
        if self.provider.accounts.variable in self.provider.asked_of("accounts"):
            self._find_site(server, token, account)
        return account

    def _find_site(self, server: AuthorizationServer, token: Token, account: Account) -> None:
        """Add the values of the site that the token can access. Of several, one must be chosen."""
        rules = self.provider.accounts
        sites = accessible_sites(server, token)
        is_clear = len(sites) == 1 or (sites and rules.choose)
        site = sites[0] if is_clear else self.choose(account, sites) if sites else None
        if site is not None:
            for name, value in site.values.items():
                self._add(name, value)
            self._move(server)
        elif sites:
            self.values[rules.variable] = UNDECIDED

    def _add(self, name: str, given: object) -> None:
        self.values[name] = callback.value_from(self.provider, name, given)

    def _move(self, server: AuthorizationServer) -> None:
        if self.provider.variables:
            server.move_to(self.provider.resolve_with_client(self.values))


def exchanged_for_long_lived(server: AuthorizationServer, token: Token) -> Token:
    """Exchange a short-lived token for a long-lived one, if the provider refreshes by exchange."""
    if server.provider.refresh.style != "exchange_access_token":
        return token
    try:
        return server.exchange_short_lived(token)
    except ProviderRejected as error:
        code = shown(error.code)
        details = {"action": "exchange_refused", "provider": server.provider.slug, "code": code}
        logger.warning("a short-lived token could not be exchanged: %s", code, extra=details)
        return token


def warn_if_no_refresh_token(connection: Connection, provider: Provider, token: Token) -> None:
    """Log a warning if a refresh token is missing, because the first error would come weeks later."""
    expected = provider.refresh.expected
    if token.renewable or expected == "never" or (expected == "conditional" and token.expires_at is None):
        return
    details = {"action": "no_refresh_token", "provider": provider.slug, "connection": str(connection.pk)}
    logger.warning(
        "%s gave no refresh token. Its users must reconnect each time a token expires. Compare the "
        "app's settings with %s",
        provider.slug,
        provider.documentation or "the provider's documentation",
        extra=details,
    )
