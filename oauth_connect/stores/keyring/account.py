"""Logging in and out: putting a token into the keyring, and ending it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from oauth_connect.engine.refresh import refresh_time
from oauth_connect.engine.revoke import revoke
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.net.destination import origin_of
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.stores.keyring.store import KeyringStore

LEEWAY = timedelta(seconds=60)
HTTP_TIMEOUT = 15.0  # seconds for one whole exchange with an authorization server

Forgotten = Literal["revoked", "unsupported", "refused", "pending", "absent"]


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
    """Keep the token of a login on this machine, in the place of the provider's present one.

    ``account`` is shown to people; ``variables`` are values of the provider's. ``resolved``: the provider
    with its endpoints, where they were discovered. Raises KeyringUnavailable.
    """
    values = dict(variables or {})
    obtained_at = (resolved or provider).resolve_with_client(values)
    login = {
        "account": account,
        "variables": values,
        "redirect_uri": redirect_uri,
        # Only this client, and only this server, may see the refresh token.
        "client_id": obtained_at.client_id,
        "token_endpoint": obtained_at.token_endpoint,
    }
    KeyringStore(provider).put(token, login, refresh_time(token, leeway))


def forget(
    provider: Provider, *, resolved: Provider | None = None, http_timeout: float = HTTP_TIMEOUT
) -> Forgotten:
    """Stop using the token at once, revoke it at the provider (RFC 7009), and forget it.

    ``pending``: the provider could not be asked. The token is used no more, but stays in the keyring: ask
    again, and it is revoked. ``absent``: there was none. ``refused``: the provider said no, or is at another
    server now, which must not see the token. Raises KeyringUnavailable.
    """
    store = KeyringStore(provider)
    ended = store.end()
    if ended is None:
        return "absent"
    token, login = ended
    at = (resolved or provider).resolve_with_client(login["variables"])
    if not is_same_server(at, login):
        store.remove()
        return "refused"
    with AuthorizationServer(at, timeout=http_timeout) as server:
        outcome = revoke(server, token).outcome
    if outcome != "pending":
        store.remove()
    return outcome


def is_same_server(provider: Provider, login: Mapping[str, Any]) -> bool:
    """Tell whether the provider is still where the token was issued, not another one of the same name."""
    return origin_of(provider.token_endpoint) == origin_of(login["token_endpoint"])
