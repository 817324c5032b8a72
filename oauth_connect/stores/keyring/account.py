"""Logs in and out: stores a token in the keyring, and revokes and removes it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from oauth_connect.engine.revoke import revoke
from oauth_connect.engine.timing import refresh_time
from oauth_connect.errors import InvalidProvider
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.grants.instance import named_variables
from oauth_connect.protocol.net.destination import origin_of
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.stores.keyring.store import KeyringStore
from oauth_connect.tracebacks import without_locals

logger = logging.getLogger("oauth_connect.stores")
LEEWAY = timedelta(seconds=60)
HTTP_TIMEOUT = 15.0  # seconds for a whole exchange with an authorization server

Forgotten = Literal["revoked", "unsupported", "refused", "pending", "absent"]


@without_locals
def keep(
    provider: Provider,
    token: Token,
    *,
    account: str = "",
    variables: Mapping[str, str] | None = None,
    redirect_uri: str = "",
    resolved: Provider | None = None,
    leeway: timedelta = LEEWAY,
) -> None:
    """Store the token of a login on this machine. It replaces the provider's present token.

    ``account`` is shown to the user. ``variables``: values of the provider's variables. ``resolved``: the
    provider with discovered endpoints. Raises KeyringUnavailable.
    """
    values = dict(variables or {})
    issuing = (resolved or provider).resolve_with_client(values)
    login = {
        "account": account,
        "variables": values,
        "redirect_uri": redirect_uri,
        # The refresh token may be sent only to this server, by this client.
        "client_id": issuing.client_id,
        "token_endpoint": issuing.token_endpoint,
    }
    KeyringStore(provider).put(token, login, refresh_time(token, leeway))


@without_locals
def forget(
    provider: Provider, *, resolved: Provider | None = None, http_timeout: float = HTTP_TIMEOUT
) -> Forgotten:
    """Stop using the token immediately, revoke it at the provider (RFC 7009), and remove it.

    The tokens of former logins are revoked too. ``pending``: the provider could not be reached. The token is
    not used any more, but stays in the keyring. Call this again to revoke it. ``absent``: the keyring has no
    token. ``refused``: the provider refused, or is at another server now, which must not get the token.
    Raises KeyringUnavailable.
    """
    store = KeyringStore(provider)
    ended = store.end()
    if ended is None:
        return "absent"
    variables = variables_of(provider, ended.login, ended.token)
    current = (resolved or provider).resolve_with_client(variables)
    if not is_same_server(current, ended.login):
        store.remove()
        return "refused"
    with AuthorizationServer(current, timeout=http_timeout) as server:
        outcome = revoke(server, ended.token).outcome
        for token in ended.kept:
            if outcome != "pending" and revoke(server, token).outcome == "pending":
                outcome = "pending"
    if outcome != "pending":
        store.remove()
    return outcome


def variables_of(provider: Provider, login: Mapping[str, Any], token: Token | None) -> dict[str, str]:
    """Return the variables of a login. A later token response may have named another instance."""

    def on_refused(error: InvalidProvider) -> None:
        details = {"action": "variable_refused", "provider": provider.slug, "connection": ""}
        logger.warning("%s", error, extra=details)

    named = {} if token is None else named_variables(provider, token, on_refused)
    return {**login["variables"], **named}


def is_same_server(provider: Provider, login: Mapping[str, Any]) -> bool:
    """Return whether the provider is still at the server that issued the token."""
    return origin_of(provider.token_endpoint) == origin_of(login["token_endpoint"])
