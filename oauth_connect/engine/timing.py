"""When a token is refreshed, how long a lease lasts, and how long a caller waits or backs off."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from oauth_connect.protocol.token import Token

# All in seconds.
LEASE_MARGIN = 5.0
MAX_BACK_OFF = 900.0
MISCONFIGURED_PAUSE = 60.0
POLL = 0.005  # interval at which one thread of a process looks whether another process has refreshed
POLL_CLOSELY = 0.2  # after this time the interval grows, because most refreshes are faster
POLL_MAX = 0.25
MAX_RESERVE = timedelta(days=3)  # before an unused refresh token expires


def lease_seconds(timeout: float) -> float:
    """Return the length of a lease. It outlasts an exchange that starts ten seconds late."""
    return timeout + LEASE_MARGIN + 10.0


def refresh_time(token: Token, leeway: timedelta) -> datetime | None:
    """Return when to refresh the token: its expiry minus the leeway and some jitter. None: never.

    It is earlier if an unused refresh token would expire before, or soon after. Half of its lifetime, at
    most three days, is left for a job that runs seldom. A client's own token is never due: a caller that
    needs one requests it.
    """
    if not token.renewable or token.reissuable:
        return None
    moments = []
    if token.expires_at is not None:
        moments.append(_before(token.expires_at, token.leeway(leeway)))
    if token.refresh_token and token.refresh_token_expires_at is not None:
        unused = token.refresh_token_expires_at - token.obtained_at
        moments.append(_before(token.refresh_token_expires_at, min(unused / 2, MAX_RESERVE)))
    return min(moments, default=None)


def _before(end: datetime, reserve: timedelta) -> datetime:
    return end - reserve - reserve * random.uniform(0, 0.1)  # noqa: S311


def pause(failures: int, retry_after: float | None) -> float:
    """Return the seconds until the next try: capped exponential back-off with jitter, or ``retry_after``."""
    back_off = min(2.0 ** min(failures, 16), MAX_BACK_OFF) * random.uniform(0.5, 1)  # noqa: S311
    return max(back_off, retry_after or 0.0)
