"""Error codes that may be shown to anybody: those of RFC 6749 section 5.2 and of this package."""

from __future__ import annotations

import re

from oauth_connect.errors import (
    ConnectionHidden,
    ConnectionLocked,
    KeyUnavailable,
    OwnerMismatch,
    ProtocolError,
)
from oauth_connect.protocol.grants import refusals
from oauth_connect.protocol.grants.authorization_errors import clean_code
from oauth_connect.redaction import never_mask

REASONS = frozenset(
    {"revoked", "rotation_lost", "expired", "no_refresh_token", "client_changed"}
    | {"account_changed", "disconnected", "owner_inactive", refusals.REFUSED_WITHOUT_REASON}
)
PUBLIC_CODES = (
    refusals.MISCONFIGURED
    | refusals.TRANSIENT
    | REASONS
    | {"invalid_request", "invalid_grant", "invalid_scope", "access_denied", "provider_disabled"}
    | {"provider_missing", "invalid_settings", "not_connected", "missing_scopes", "site_undecided"}
    | {"bad_metadata", "bad_endpoint", "issuer_mismatch"}
    | {"busy", "client_authentication_not_supported", "pkce_not_supported"}
    | {ConnectionHidden.code, ConnectionLocked.code, KeyUnavailable.code, OwnerMismatch.code}
)
never_mask(PUBLIC_CODES)


def shown(code: str) -> str:
    """Return a known code, else "other_error". A provider may send any text as a code, even a token."""
    known = code in PUBLIC_CODES or re.fullmatch(r"http_\d{3}", code)
    return code if known else "other_error"


def stored(code: str) -> str:
    """Return a code as a column may hold it: a provider's own code is cleaned, because it may be a token."""
    return code if shown(code) == code else clean_code(code)


def word_of_provider(error: Exception) -> str:
    """Return the provider's own code for a refused request, cleaned, or "" if ``shown`` returns it."""
    code = error.code if isinstance(error, ProtocolError) else ""
    return clean_code(code) if code and shown(code) != code else ""
