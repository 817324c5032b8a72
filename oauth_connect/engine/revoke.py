"""Revokes tokens at the provider. Local use has been stopped before; this module does not decide about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from oauth_connect.errors import CallError, ProviderMisconfigured, ProviderUnavailable
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.token import Token

Outcome = Literal["revoked", "unsupported", "refused", "pending"]
# After the client's secret is corrected, a retry may succeed. Other refusals are final.
CLIENT_REFUSED = frozenset({"invalid_client", "unauthorized_client"})


@dataclass(frozen=True, slots=True)
class Revocation:
    """The outcome of a revocation. ``pending``: the token is still valid, and a retry may succeed.

    ``code``: the error's code. ``retry_after``: seconds, if the provider named them.
    """

    outcome: Outcome
    code: str = ""
    retry_after: float | None = None


def revoke(server: AuthorizationServer, token: Token) -> Revocation:
    """Send one revocation request to the provider (RFC 7009 section 2).

    ``pending`` when the server is unavailable (503, section 2.2.1), or refuses this site's client.
    """
    try:
        return Revocation("revoked" if server.revoke(token) else "unsupported")
    except ProviderUnavailable as error:
        return Revocation("pending", error.code, error.retry_after)
    except ProviderMisconfigured as error:
        return Revocation("pending" if error.code in CLIENT_REFUSED else "refused", error.code)
    except CallError as error:
        return Revocation("refused", getattr(error, "code", ""))
