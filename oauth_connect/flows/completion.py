"""Finds the values of a provider's variables during a flow: its tenant, shop or instance."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from oauth_connect.errors import CallbackRefused, InvalidProvider, ProviderRejected
from oauth_connect.flows.account import Account, accessible_id, identify
from oauth_connect.models import Connection
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.grants import callback, responses
from oauth_connect.protocol.grants.error_codes import shown
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import Variable
from oauth_connect.protocol.token import Token

logger = logging.getLogger("oauth_connect")


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


def typed_value(provider: Provider, name: str, given: object) -> str:
    """Return a variable's value from a user's text. Raises InvalidProvider.

    If the text does not fit, try it without scheme and slash, and in lower case: users copy it from browsers.
    """
    text = str(given).strip()
    bare = re.sub("^https?://", "", text, flags=re.IGNORECASE).rstrip("/")
    for reading in (given, text, bare, bare.lower()):
        with suppress(InvalidProvider):
            return provider.value_of(name, reading)
    return provider.value_of(name, given)


class Completion:
    """Collects the values of the variables from the responses of a flow, step by step, in ``values``.

    ``provider`` is not resolved: its variables have no values. Every method may raise CallbackRefused.
    """

    def __init__(
        self, provider: Provider, initial: Mapping[str, str], pairs: Iterable[tuple[str, str]]
    ) -> None:
        self.provider = provider
        self.pairs = list(pairs)
        self.values = dict(initial)

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
            given = responses.pick(token.extra, [variable.field or name])
            self.values[name] = callback.value_from(self.provider, name, given)
        self._move(server)

    def find_account(self, server: AuthorizationServer, token: Token, *, nonce: str | None) -> Account:
        account = identify(server, token, nonce=nonce, parameters=dict(self.pairs))
        rules = self.provider.accounts
        if rules.variable in self.provider.asked_of("accounts") and (chosen := accessible_id(server, token)):
            self.values[rules.variable] = callback.value_from(self.provider, rules.variable, chosen)
            self._move(server)
        return account

    def _move(self, server: AuthorizationServer) -> None:
        if self.provider.variables:
            server.move_to(self.provider.resolve_with_client(self.values))


def exchanged_for_long_lived(server: AuthorizationServer, token: Token) -> Token:
    """Exchange a short-lived token for a long-lived one, if the provider refreshes by exchange."""
    if server.provider.refresh.style != "exchange_access_token":
        return token
    try:
        return server.refresh(token)
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
