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

from oauth_connect.errors import CallbackRefused, printable_line
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.redaction import redacted

Claim = Literal["iss", "aud", "sub"]
ISSUER_LIMIT = 200  # characters of another issuer in a message
END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
# The error codes of claims that only wrong settings explain.
MISMATCHES: dict[Claim, str] = {"iss": "id_token_issuer", "aud": "id_token_audience"}


def claims_of(token: object) -> dict[str, Any] | None:
    """Return the claims of a token, or None if it is unreadable: not a signed JWT, or encrypted."""
    try:
        _header, payload, _signature = str(token).split(".")
        padded = payload + "=" * (-len(payload) % 4)
        claims = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def check_userinfo(provider: Provider, claims: Mapping[str, Any]) -> None:
    """Check who issued signed userinfo and for whom, as far as it says (section 5.3.2).

    It came directly from the userinfo endpoint. Raises CallbackRefused.
    """
    issuer = claims.get("iss")
    other_issuer = bool(provider.issuer) and issuer not in (None, provider.issuer)
    found = audiences(claims)
    if other_issuer or (found and provider.client_id not in found):
        why = _other_issuer(provider, issuer) if other_issuer else _other_client(provider)
        raise CallbackRefused(
            f"{provider.label} sent signed userinfo that is not for this client. {why}",
            code="account_unknown",
        )


def fault_of(claims: Mapping[str, Any] | None, provider: Provider, *, nonce: str, now: datetime) -> str:
    """Return why an ID token is not for this sign-in, or "" if it is (section 3.1.3.7)."""
    if claims is None:
        return "It is missing, or it is not a signed JWT."
    if claims.get("iss") != provider.issuer:
        return _other_issuer(provider, claims.get("iss"))
    if not is_for(claims, provider.client_id):
        return _other_client(provider)
    if not is_current(claims, now):
        return "It has expired, or it has no valid expiry. Compare the clock of this machine."
    return "" if claims.get("nonce", "") == nonce else "Its nonce is not that of the request."


def _other_issuer(provider: Provider, issuer: object) -> str:
    named = redacted(printable_line(issuer, ISSUER_LIMIT))
    return (
        f"It names the issuer {named!r}, and the issuer of {provider.slug!r} is {provider.issuer!r}. If both "
        "are the same server, correct the entry."
    )


def _other_client(provider: Provider) -> str:
    return f"It is for another client. Compare client_id of {provider.slug!r} with the app at the provider."


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
    return None if subject_of(new_claims) == subject_of(old_claims) else "sub"


def keep_readable(new: Token, previous: Token) -> Token:
    """Return ``new`` without its ID token, if that is unreadable and must not replace a readable one."""
    if "id_token" not in new.extra or _comparable(new) is not None or _comparable(previous) is None:
        return new
    return replace(new, extra={name: value for name, value in new.extra.items() if name != "id_token"})


def _comparable(token: Token) -> dict[str, Any] | None:
    id_token = token.extra.get("id_token")
    claims = None if id_token is None else claims_of(id_token)
    return claims if claims is not None and subject_of(claims) else None


def subject_of(claims: Mapping[str, Any]) -> str:
    """Return the subject. Some servers write a number, and later the same number as a string."""
    subject = claims.get("sub")
    return str(subject) if isinstance(subject, str | int) and not isinstance(subject, bool) else ""
