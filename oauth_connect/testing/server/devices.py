"""The device codes of the fake provider (RFC 8628)."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from oauth_connect.testing.server.messages import Decision, Refused

LIFETIME = 600  # seconds
INTERVAL = 1  # seconds between two requests for the token; the client may not choose less
SLOW_DOWN = 5  # seconds that the interval grows by with each request that comes too early (section 3.5)
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels, so that no word comes out (section 6.1)


@dataclass(kw_only=True, eq=False, repr=False)
class DeviceCode:
    """``may_poll_at`` and ``expires_at``: seconds of the monotonic clock."""

    device_code: str
    user_code: str
    client_id: str
    scopes: tuple[str, ...]
    interval: float
    expires_at: float
    may_poll_at: float = 0.0
    decision: Decision | None = None


class DeviceCodes:
    """All device codes. Each method is atomic."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._codes: dict[str, DeviceCode] = {}

    def start(self, client_id: str, scopes: Sequence[str]) -> DeviceCode:
        """Return a new code, for which a person must still decide."""
        code = DeviceCode(
            device_code=f"fake-device-{secrets.token_urlsafe(24)}",
            user_code="-".join("".join(secrets.choice(LETTERS) for _ in range(4)) for _ in range(2)),
            client_id=client_id,
            scopes=tuple(scopes),
            interval=INTERVAL,
            expires_at=self._now() + LIFETIME,
        )
        with self._lock:
            self._codes[code.device_code] = code
        return code

    def shown(self, user_code: str) -> DeviceCode | None:
        """Return the code that a person enters, if it still waits for a decision. Case does not matter."""
        entered = user_code.strip().upper().replace("-", "").replace(" ", "")
        with self._lock:
            for code in self._codes.values():
                is_waiting = code.decision is None and code.expires_at > self._now()
                if is_waiting and code.user_code.replace("-", "") == entered:
                    return code
        return None

    def decide(self, code: DeviceCode, decision: Decision) -> None:
        with self._lock:
            code.decision = decision

    def poll(self, device_code: str, client_id: str) -> tuple[Decision, tuple[str, ...]]:
        """Return the decision and the requested scopes, once. Raises Refused (section 3.5)."""
        with self._lock:
            code = self._codes.get(device_code)
            if code is None or code.client_id != client_id:
                raise Refused("invalid_grant", "The device_code is unknown, used, or of another client.")
            if code.decision is not None:
                del self._codes[device_code]
                return code.decision, code.scopes
            if code.expires_at <= self._now():
                raise Refused("expired_token", "The device_code has expired.")
            too_early = self._now() < code.may_poll_at
            code.interval += SLOW_DOWN if too_early else 0
            code.may_poll_at = self._now() + code.interval
            if too_early:
                raise Refused("slow_down", "The client must wait longer between two requests.")
            raise Refused("authorization_pending", "The user has not decided yet.")
