"""Error codes that may be shown to anybody: those of RFC 6749 section 5.2 and of this package."""

from __future__ import annotations

import re

from oauth_connect.errors import ConnectionHidden, ConnectionLocked, KeyUnavailable, OwnerMismatch
from oauth_connect.protocol.grants import responses

REASONS = frozenset(
    {"revoked", "rotation_lost", "expired", "no_refresh_token", "client_changed"}
    | {"account_changed", "disconnected", "owner_inactive"}
)
PUBLIC_CODES = (
    responses.MISCONFIGURED
    | responses.TRANSIENT
    | REASONS
    | {"invalid_request", "invalid_grant", "invalid_scope", "access_denied", "provider_disabled"}
    | {"provider_missing", "invalid_settings"}
    | {"busy", "client_authentication_not_supported", "pkce_not_supported"}
    | {ConnectionHidden.code, ConnectionLocked.code, KeyUnavailable.code, OwnerMismatch.code}
)


def shown(code: str) -> str:
    """Return a known code, else "other_error". A provider may send any text as a code, even a token."""
    known = code in PUBLIC_CODES or re.fullmatch(r"http_\d{3}", code)
    return code if known else "other_error"
