"""Reads the variables that a token response names: an organisation may have moved to another instance."""

from __future__ import annotations

from collections.abc import Callable

from oauth_connect.errors import InvalidProvider
from oauth_connect.protocol.paths import pick
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token


def named_variables(
    provider: Provider, token: Token, on_refused: Callable[[InvalidProvider], None]
) -> dict[str, str]:
    """Return the variables that a token's response names. ``provider`` is not resolved.

    A value that does not fit its pattern is left out, and ``on_refused`` gets the error. So the connection
    stays at the instance that it has.
    """
    named = {}
    for name, variable in provider.asked_of("token_response").items():
        value = pick(token.extra, [variable.field or name])
        if not value:
            continue
        try:
            named[name] = provider.value_of(name, value)
        except InvalidProvider as error:
            on_refused(error)
    return named
