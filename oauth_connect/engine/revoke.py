"""Revocation at the provider. Never decides about local use: that has stopped before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from oauth_connect.errors import CallError, ProviderMisconfigured, ProviderUnavailable
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.token import Token

Outcome = Literal["revoked", "unsupported", "refused", "pending"]
# Another secret may mend it. Whatever else is refused would be refused again.
CLIENT_REFUSED = frozenset({"invalid_client", "unauthorized_client"})


@dataclass(frozen=True, slots=True)
class Revocation:
    """How it went. ``pending``: the token still lives, and it is worth another try.

    ``code``: the error's; ``retry_after``: in seconds, where the provider said.
    """

    outcome: Outcome
    code: str = ""
    retry_after: float | None = None


def revoke(server: AuthorizationServer, token: Token) -> Revocation:
    """Ask the provider to revoke a token, once (RFC 7009 section 2).

    A server that cannot answer (503, section 2.2.1) has revoked nothing, nor has one that does not take
    this site's client.
    """
    try:
        return Revocation("revoked" if server.revoke(token) else "unsupported")
    except ProviderUnavailable as error:
        return Revocation("pending", error.code, error.retry_after)
    except ProviderMisconfigured as error:
        return Revocation("pending" if error.code in CLIENT_REFUSED else "refused", error.code)
    except CallError as error:
        return Revocation("refused", getattr(error, "code", ""))
