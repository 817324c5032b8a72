"""Words for what went wrong that may be told to anybody: RFC 6749 section 5.2's, and this package's own."""

from __future__ import annotations

import re

from oauth_connect.errors import ConnectionLocked, KeyUnavailable
from oauth_connect.protocol.grants import responses

REASONS = frozenset(
    {"revoked", "rotation_lost", "expired", "no_refresh_token", "client_changed"}
    | {"disconnected", "owner_inactive"}
)
WORDS = (
    responses.MISCONFIGURED
    | responses.TRANSIENT
    | REASONS
    | {"invalid_request", "invalid_grant", "invalid_scope", "access_denied", "provider_disabled"}
    | {"provider_missing", "invalid_settings"}
    | {"busy", "client_authentication_not_supported", "pkce_not_supported"}
    | {ConnectionLocked.code, KeyUnavailable.code}
)


def shown(code: str) -> str:
    """Return an error's code if it is a known word; a provider may write anything there, a token too."""
    known = code in WORDS or re.fullmatch(r"http_\d{3}", code)
    return code if known else "other_error"
