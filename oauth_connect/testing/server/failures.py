"""Failures on demand: what an endpoint does in place of its ordinary answer."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from oauth_connect.protocol.definition import suggestion
from oauth_connect.testing.server.messages import check_body, check_status

ENDPOINTS = (
    "authorization",
    "token",
    "revocation",
    "introspection",
    "device_authorization",
    "userinfo",
    "accounts",
    "api",
)
NOTHING = "Say how: status=503, error='invalid_grant', lost=True or timeout=True."


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What an endpoint does in place of its ordinary answer.

    ``status``: of the HTTP response. ``error``: an error code of the RFCs (RFC 6749 section 5.2).
    ``retry_after``: seconds. ``lost``: the work is done, and the response is not whole. ``timeout``: there is
    no response, until the client closes the connection. ``body``: sent in place of the endpoint's own.
    Raises ValueError for a failure that is none, or two.
    """

    status: int | None = None
    error: str | None = None
    retry_after: int | None = None
    lost: bool = False
    timeout: bool = False
    body: bytes | str | None = None

    def __post_init__(self) -> None:
        answers = self.status is not None or self.error is not None
        if not (answers or self.lost or self.timeout):
            raise ValueError(NOTHING)
        if answers + self.lost + self.timeout > 1:
            raise ValueError("One failure at a time: an answer (status, error), lost or timeout.")
        if not answers and (self.retry_after is not None or self.body is not None):
            raise ValueError("retry_after and body belong to an answer: give its status, too.")
        if self.status is not None:
            check_status(self.status)
        if self.body is not None:
            check_body(self.body)

    @property
    def payload(self) -> bytes | None:
        return self.body.encode() if isinstance(self.body, str) else self.body


class Failures:
    """The failures that are still to come, for each endpoint in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[str, list[tuple[Failure, int | None]]] = {name: [] for name in ENDPOINTS}

    def add(self, endpoint: str, failure: Failure, times: int | None) -> None:
        """Queue a failure so many times. None: always. Raises ValueError."""
        _check_endpoint(endpoint)
        _check_times(times)
        with self._lock:
            self._queues[endpoint].append((failure, times))

    def forget(self, endpoint: str | None) -> None:
        """Drop the failures of one endpoint, or of all."""
        if endpoint is not None:
            _check_endpoint(endpoint)
        with self._lock:
            for name in [endpoint] if endpoint else ENDPOINTS:
                self._queues[name].clear()

    def coming(self, endpoint: str) -> list[Failure]:
        """Return the different failures that are still to come, in order."""
        _check_endpoint(endpoint)
        with self._lock:
            return [failure for failure, _ in self._queues[endpoint]]

    def take(self, endpoint: str) -> Failure | None:
        """Return the next failure of an endpoint, which counts as used."""
        with self._lock:
            queue = self._queues[endpoint]
            if not queue:
                return None
            failure, left = queue[0]
            if left == 1:
                queue.pop(0)
            elif left is not None:
                queue[0] = (failure, left - 1)
            return failure


def _check_endpoint(endpoint: str) -> None:
    if endpoint not in ENDPOINTS:
        near = suggestion(str(endpoint), ENDPOINTS)
        raise ValueError(
            f"endpoint: the fake provider has no {endpoint!r}{near} (it has: {', '.join(ENDPOINTS)})"
        )


def _check_times(times: object) -> None:
    if times is not None and not (isinstance(times, int) and times >= 1):
        raise ValueError(f"times: {times!r} is no number, or less than 1. Use None for a failure that stays.")
