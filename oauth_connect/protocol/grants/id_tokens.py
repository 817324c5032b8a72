"""Reads ID tokens (OpenID Connect Core section 2), and compares those of a refresh with the row's.

They come directly from the token endpoint. TLS authenticates it, so no signature is checked (section 3.1.3.7,
point 6).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token

Claim = Literal["iss", "aud", "sub"]
END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
# The error codes of claims that only wrong settings explain.
MISMATCHES: dict[Claim, str] = {"iss": "id_token_issuer", "aud": "id_token_audience"}


def claims_of(id_token: object) -> dict[str, Any] | None:
    """Return the claims of an ID token, or None if it is unreadable: not a signed JWT, or encrypted."""
    try:
        _header, payload, _signature = str(id_token).split(".")
        padded = payload + "=" * (-len(payload) % 4)
        claims = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def audiences(claims: Mapping[str, Any]) -> list[Any]:
    """Return the audiences of an ID token. ``aud`` is a list, or one string."""
    found = claims.get("aud")
    if isinstance(found, list):
        return found
    return [] if found is None else [found]


def is_for(claims: Mapping[str, Any], client_id: str) -> bool:
    """Return whether an ID token was issued to this client (section 3.1.3.7, points 3 to 5).

    With several audiences, ``azp`` must name it.
    """
    found = audiences(claims)
    authorized = claims.get("azp")
    if authorized is None and len(found) == 1:
        authorized = client_id
    return client_id in found and authorized == client_id


def is_current(claims: Mapping[str, Any], now: datetime) -> bool:
    """Return whether an ID token has an expiry, which is later than now and a possible date."""
    expires_at = claims.get("exp")
    if isinstance(expires_at, bool) or not isinstance(expires_at, int | float):
        return False
    return now.timestamp() < expires_at < END_OF_TIME


def differing_claim(provider: Provider, previous: Token, new: Token) -> Claim | None:
    """Return the claim of a refresh's ID token that contradicts the previous one (section 12.2).

    ``iss`` and ``aud``: the settings are wrong, and the subjects cannot be compared. ``sub``: the new token
    belongs to another account. None: nothing contradicts, or one of both ID tokens is missing or unreadable.
    """
    old_claims, new_claims = _comparable(previous), _comparable(new)
    if old_claims is None or new_claims is None:
        return None
    issuer = new_claims.get("iss")
    if issuer != old_claims.get("iss"):
        # The site has corrected its settings since the user consented.
        return None if provider.issuer and issuer == provider.issuer else "iss"
    accepted = audiences(new_claims)
    if provider.client_id not in accepted and not all(one in accepted for one in audiences(old_claims)):
        return "aud"
    return None if _subject(new_claims) == _subject(old_claims) else "sub"


def keep_readable(new: Token, previous: Token) -> Token:
    """Return ``new`` without its ID token, if that is unreadable and must not replace a readable one."""
    if "id_token" not in new.extra or _comparable(new) is not None or _comparable(previous) is None:
        return new
    return replace(new, extra={name: value for name, value in new.extra.items() if name != "id_token"})


def _comparable(token: Token) -> dict[str, Any] | None:
    claims = claims_of(token.extra.get("id_token"))
    return claims if claims is not None and _subject(claims) else None


def _subject(claims: Mapping[str, Any]) -> str:
    """Return the subject. Some servers write a number, and later the same number as a string."""
    subject = claims.get("sub")
    return str(subject) if isinstance(subject, str | int) and not isinstance(subject, bool) else ""
