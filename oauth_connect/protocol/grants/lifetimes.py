"""When tokens end, from the forms in which providers say so. All of it is a hint (RFC 6749 section 5.1)."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from oauth_connect.protocol.provider import Provider

LONGEST_LIFETIME = timedelta(days=366 * 20)


def lifetime(value: object) -> timedelta | None:
    """Read ``expires_in``, in seconds; a hint only (RFC 6749 section 5.1).

    Whatever is not a positive, sensible number says nothing, and a token of unknown expiry is used
    until the API refuses it.
    """
    seconds = _number(value)
    if seconds is None or not 0 < seconds <= LONGEST_LIFETIME.total_seconds():
        return None
    return timedelta(seconds=seconds) or None


def expiry(provider: Provider, answer: Mapping[str, Any], obtained_at: datetime) -> datetime | None:
    """Return when the access token ends; None where nothing sensible is said or assumed."""
    rules = provider.token_response
    said = answer.get(rules.name_of("expires_in"))
    left: timedelta | None
    if rules.expires_unit == "seconds":
        left = lifetime(said)
    else:
        if rules.expires_unit == "jwt":
            said = _claimed_end(answer.get(rules.name_of("access_token")))
        moment = _moment(rules.expires_unit, said)
        left = lifetime((moment - obtained_at).total_seconds()) if moment else None
    left = left or lifetime(rules.assumed_lifetime)
    return obtained_at + left if left else None


def refresh_token_expiry(
    provider: Provider, answer: Mapping[str, Any], obtained_at: datetime, *, assume: bool
) -> datetime | None:
    """Return when the refresh token ends, unused: what the answer says, else (``assume``) what is known."""
    left = lifetime(answer.get(provider.token_response.refresh_token_expires_in))
    if assume:
        left = left or lifetime(provider.refresh.lifetime_seconds)
    return obtained_at + left if left else None


def reconnect_before(provider: Provider, connected_at: datetime) -> datetime | None:
    """Return when the grant ends whatever is refreshed; it counts from the user's consent."""
    left = lifetime(provider.refresh.absolute_seconds)
    return connected_at + left if left else None


def _moment(unit: str, value: object) -> datetime | None:
    try:
        if unit == "iso8601":
            moment = datetime.fromisoformat(str(value))
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        number = _number(value)
        if number is None:
            return None
        return datetime.fromtimestamp(number / 1000 if unit == "epoch_milliseconds" else number, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _claimed_end(access_token: object) -> object:
    """Read ``exp`` (RFC 7519 section 4.1.4) of a token that nobody here verifies: it is a hint."""
    try:
        payload = str(access_token).split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, RecursionError):
        return None
    return claims.get("exp") if isinstance(claims, dict) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
