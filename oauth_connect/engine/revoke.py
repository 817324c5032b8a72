"""Revocation at the provider. Never decides about local use: that has stopped before."""

from __future__ import annotations

from typing import Literal

from oauth_connect.errors import CallError, ProviderUnavailable
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.token import Token

Outcome = Literal["revoked", "unsupported", "refused", "pending"]


def revoke(server: AuthorizationServer, token: Token) -> Outcome:
    """Ask the provider to revoke a token, once (RFC 7009 section 2).

    ``pending``: it could not be asked and the token still lives (503, section 2.2.1); try again later.
    """
    try:
        return "revoked" if server.revoke(token) else "unsupported"
    except ProviderUnavailable:
        return "pending"
    except CallError:
        return "refused"
