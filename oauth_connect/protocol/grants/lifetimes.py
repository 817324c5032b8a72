"""Read when tokens expire, in the formats of all providers. Each value is a hint (RFC 6749 section 5.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from oauth_connect.protocol.grants.id_tokens import claims_of
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import OWN_PAUSE_AFTER_401 as SHORT

MAX_LIFETIME = timedelta(days=366 * 20)


def lifetime(value: object) -> timedelta | None:
    """Return ``expires_in``, given in seconds, as a timedelta (RFC 6749 section 5.1).

    Return None if the value is not a positive number, or is too large. A token of unknown expiry is used
    until the API refuses it.
    """
    seconds = _number(value)
    if seconds is None or not 0 < seconds <= MAX_LIFETIME.total_seconds():
        return None
    return timedelta(seconds=seconds) or None


def expiry(provider: Provider, body: Mapping[str, Any], obtained_at: datetime) -> datetime | None:
    """Return when the access token expires, or None if its expiry is unknown and no lifetime is assumed."""
    seconds = _seconds_left(provider, body, obtained_at)
    left = lifetime(seconds) or lifetime(provider.token_response.assumed_lifetime)
    return obtained_at + left if left else None


def jwt_expiry(access_token: object) -> datetime | None:
    """Return the ``exp`` of an access token that is a JWT, else None. It is not verified: only a hint."""
    return moment("epoch_seconds", _exp_claim(access_token))


def is_short(provider: Provider, body: Mapping[str, Any], obtained_at: datetime) -> bool:
    """Return whether a response says that its access token lives for a few seconds at most, or not at all.

    ``expiry`` may call it unknown: such a token is used nevertheless, until the API refuses it.
    """
    seconds = _seconds_left(provider, body, obtained_at)
    return seconds is not None and seconds <= SHORT.total_seconds()


def _seconds_left(provider: Provider, body: Mapping[str, Any], obtained_at: datetime) -> float | None:
    """Return the lifetime that a response names, in seconds, or None. It may be zero or negative."""
    rules = provider.token_response
    value = body.get(rules.name_of("expires_in"))
    if rules.expires_unit == "seconds":
        return _from_now(_number(value), obtained_at)
    if rules.expires_unit == "jwt":
        value = _exp_claim(body.get(rules.name_of("access_token")))
    found = moment(rules.expires_unit, value)
    return (found - obtained_at).total_seconds() if found else None


def _from_now(seconds: float | None, obtained_at: datetime) -> float | None:
    """Return a lifetime in seconds. Some servers write a point in time, which is too large for a lifetime."""
    if seconds is None or seconds <= MAX_LIFETIME.total_seconds():
        return seconds
    for unit in ("epoch_seconds", "epoch_milliseconds"):
        found = moment(unit, seconds)
        if found and obtained_at < found <= obtained_at + MAX_LIFETIME:
            return (found - obtained_at).total_seconds()
    return seconds


def refresh_token_expiry(
    provider: Provider, body: Mapping[str, Any], obtained_at: datetime, *, assume: bool
) -> datetime | None:
    """Return when an unused refresh token expires, according to the response.

    With ``assume``, fall back to the provider's ``lifetime_seconds``.
    """
    rules = provider.token_response
    value = body.get(rules.refresh_token_expires_in)
    if rules.refresh_token_expires_unit == "seconds":
        left = lifetime(_from_now(_number(value), obtained_at))
    else:
        found = moment(rules.refresh_token_expires_unit, value)
        left = lifetime((found - obtained_at).total_seconds() if found else None)
    if assume:
        left = left or lifetime(provider.refresh.lifetime_seconds)
    return obtained_at + left if left else None


def reconnect_before(provider: Provider, connected_at: datetime) -> datetime | None:
    """Return when the grant expires even if it is refreshed. The time counts from the user's consent."""
    left = lifetime(provider.refresh.absolute_seconds)
    return connected_at + left if left else None


def moment(unit: str, value: object) -> datetime | None:
    """Return a point in time that a value names in a unit of ``token_response.expires_unit``, or None."""
    try:
        if unit == "iso8601":
            found = datetime.fromisoformat(str(value))
            return found if found.tzinfo else found.replace(tzinfo=UTC)
        number = _number(value)
        if number is None:
            return None
        return datetime.fromtimestamp(number / 1000 if unit == "epoch_milliseconds" else number, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _exp_claim(access_token: object) -> object:
    """Return ``exp`` (RFC 7519 section 4.1.4). The token is not verified, so the value is only a hint."""
    return (claims_of(access_token) or {}).get("exp")


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
