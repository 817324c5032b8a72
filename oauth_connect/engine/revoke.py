"""Revokes tokens at the provider. Local use has been stopped before; this module does not decide about it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

from oauth_connect.engine.logged_once import is_first
from oauth_connect.errors import CallError, ProviderUnavailable
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token

logger = logging.getLogger("oauth_connect")
Outcome = Literal["revoked", "unsupported", "refused", "pending"]
# After the client's secret is corrected, a retry may succeed. Other refusals are final.
CLIENT_REFUSED = frozenset({"invalid_client", "unauthorized_client", "http_401"})
NOT_IMPLEMENTED = "http_501"  # the server has no revocation (RFC 9110 section 15.6.2)


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

    ``pending`` when the server is unavailable (503, section 2.2.1), or refuses the client's secret. A client
    that has no secret cannot satisfy a server that expects one, so that refusal is final.
    """
    outcome: Outcome
    try:
        return Revocation("revoked" if server.revoke(token) else "unsupported")
    except ProviderUnavailable as error:
        outcome = "refused" if error.code == NOT_IMPLEMENTED else "pending"
        return Revocation(outcome, error.code, error.retry_after)
    except CallError as error:
        code, outcome = getattr(error, "code", ""), "refused"
        if code in CLIENT_REFUSED and server.provider.revocation.style == "rfc7009":
            outcome = _after_refused_client(server.provider)
        return Revocation(outcome, code)


def _after_refused_client(provider: Provider) -> Outcome:
    """Return the outcome after a server refused the client. Log a client without a secret once a process."""
    if provider.has_secret:
        return "pending"
    if is_first(("revocation_impossible", provider.slug, provider.client_id, provider.revocation_endpoint)):
        details = {"action": "revocation_impossible", "provider": provider.slug}
        logger.warning(
            "%s revokes no token of a client without a secret. Tokens stay valid there until they expire. "
            'Set client_secret if the client has one, else revocation.style to "none".',
            provider.slug,
            extra=details,
        )
    return "refused"
