"""Which tenant, shop or instance a flow is about: the values of a provider's variables."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from oauth_connect.errors import InvalidProvider, ProviderRejected
from oauth_connect.flows.account import Account, identify, reached
from oauth_connect.models import Connection
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.grants import callback, responses
from oauth_connect.protocol.grants.error_codes import shown
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import Variable
from oauth_connect.protocol.token import Token

logger = logging.getLogger("oauth_connect")


def asked_variables(provider: Provider, connection: Connection | None = None) -> dict[str, Variable]:
    """Return what whoever connects must say; nothing more where a connection knows it."""
    known = connection.variables if connection else {}
    return {name: one for name, one in provider.asked_of("user").items() if not known.get(name)}


def initial_values(
    provider: Provider, given: Mapping[str, Any], connection: Connection | None
) -> dict[str, str]:
    """Return the values that a flow begins with. Raises InvalidProvider with the path of what is wrong."""
    asked = provider.asked_of("user")
    known = connection.variables if connection else {}
    for name in given:
        if name not in asked:
            raise InvalidProvider(
                f"{provider.slug}.variables.{name}: not a variable that users are asked for"
            )
    return {
        name: provider.value_of(name, known.get(name) or given.get(name) or variable.default)
        for name, variable in asked.items()
    }


class Completion:
    """What a flow's answers say, step by step; ``values`` are those of the variables so far.

    ``provider`` still has its variables. Every method may raise CallbackRefused.
    """

    def __init__(
        self, provider: Provider, began_with: Mapping[str, str], pairs: Iterable[tuple[str, str]]
    ) -> None:
        self.provider = provider
        self.pairs = list(pairs)
        self.values = dict(began_with)

    def read_callback(self) -> None:
        """Check the signature, what the answer must repeat, and take what it brings."""
        callback.check_signature(self.provider, self.pairs)
        self.values |= callback.callback_values(self.provider, self.pairs, self.values)

    def read_token(self, server: AuthorizationServer, token: Token) -> None:
        """Take what the token answer brings; from here on the server is the one at that instance."""
        for name, variable in self.provider.asked_of("token_response").items():
            given = responses.pick(token.extra, [variable.field or name])
            self.values[name] = callback.value_from(self.provider, name, given)
        self._move(server)

    def find_account(self, server: AuthorizationServer, token: Token, *, nonce: str | None) -> Account:
        account = identify(server, token, nonce=nonce, parameters=dict(self.pairs))
        rules = self.provider.accounts
        if rules.variable in self.provider.asked_of("accounts") and (chosen := reached(server, token)):
            self.values[rules.variable] = callback.value_from(self.provider, rules.variable, chosen)
            self._move(server)
        return account

    def _move(self, server: AuthorizationServer) -> None:
        if self.provider.variables:
            server.move_to(self.provider.resolve_with_client(self.values))


def exchanged_for_long_lived(server: AuthorizationServer, token: Token) -> Token:
    """Exchange a short token for a long one at once, where that is how the provider refreshes."""
    if server.provider.refresh.style != "exchange_access_token":
        return token
    try:
        return server.refresh(token)
    except ProviderRejected as error:
        code = shown(error.code)
        details = {"action": "exchange_refused", "provider": server.provider.slug, "code": code}
        logger.warning("a short token was not exchanged: %s", code, extra=details)
        return token


def warn_if_no_refresh_token(connection: Connection, provider: Provider, token: Token) -> None:
    """Say at once what would otherwise be found out weeks later, when the token ends."""
    expected = provider.refresh.expected
    if token.renewable or expected == "never" or (expected == "conditional" and token.expires_at is None):
        return
    details = {"action": "no_refresh_token", "provider": provider.slug, "connection": str(connection.pk)}
    logger.warning(
        "%s gave no refresh token; its users must connect again whenever a token ends. Compare the "
        "app's settings with %s",
        provider.slug,
        provider.documentation or "the provider's page",
        extra=details,
    )
