"""The device flow (RFC 8628): reads the response that starts it, and polls for the token."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from oauth_connect.errors import (
    ForbiddenDestination,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
    printable_line,
)
from oauth_connect.protocol.grants import refusals, responses
from oauth_connect.protocol.grants.bodies import Body
from oauth_connect.protocol.grants.lifetimes import lifetime
from oauth_connect.protocol.net.destination import browsable
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.tracebacks import without_locals

INTERVAL = 5.0  # seconds, if the server sends no interval (section 3.2)
MIN_INTERVAL = 1.0  # seconds
SLOW_DOWN = 5.0  # seconds added to the interval for the rest of the flow (section 3.5)
MAX_PAUSE = 60.0  # seconds between retries while the server cannot be reached
LIFETIME = 900.0  # seconds, if the server omits expires_in, which is required
MAX_LIFETIME = 24 * 3600.0
MAX_USER_CODE = 64


@dataclass(frozen=True, slots=True, repr=False)
class DeviceAuthorization:
    """A device authorization response (RFC 8628 section 3.2). ``expires_in`` and ``interval`` are in seconds.

    ``verification_uri_complete`` is "" if the server sent none. ``user_code`` is safe to print in a terminal.
    """

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str = ""
    expires_in: float = LIFETIME
    interval: float = INTERVAL


class DeviceServer(Protocol):
    """The part of an authorization server that ``await_token`` calls."""

    def device_token(self, device_code: str, *, scopes: Iterable[str] = ()) -> Token: ...


def read_device_authorization(provider: Provider, status: int, document: Any) -> DeviceAuthorization:
    """Read a device authorization response (RFC 8628 section 3.2).

    Raises the errors of RFC 6749 section 5.2. Raises ProviderMisconfigured if a code is missing, or if an
    address is not safe to show or open.
    """
    if refusals.is_refusal(provider, document) or not 200 <= status < 300:
        raise refusals.refusal(provider, status, document, client_only=True)
    body = document if isinstance(document, Mapping) else Body()
    device_code = body.get("device_code")
    user_code = printable_line(body.get("user_code") or "", MAX_USER_CODE)
    if not device_code or not responses.is_printable(device_code) or not user_code:
        raise _unusable(provider, "The device_code or the user_code is missing.")
    try:
        # Google and others used verification_url before the RFC defined verification_uri.
        address = browsable(body.get("verification_uri") or body.get("verification_url"))
        complete = body.get("verification_uri_complete")
        return DeviceAuthorization(
            device_code=str(device_code),
            user_code=user_code,
            verification_uri=address,
            verification_uri_complete=browsable(complete) if complete else "",
            expires_in=min(_seconds(body, "expires_in", LIFETIME), MAX_LIFETIME),
            interval=max(_seconds(body, "interval", INTERVAL), MIN_INTERVAL),
        )
    except ForbiddenDestination as refused:
        raise _unusable(provider, str(refused)) from None


@without_locals
def await_token(
    server: DeviceServer,
    authorization: DeviceAuthorization,
    *,
    scopes: Iterable[str] = (),
    tick: Callable[[float], None] = lambda left: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Token:
    """Request the token repeatedly until the user has decided (RFC 8628 sections 3.4 and 3.5).

    ``tick`` is called with the seconds left, about once a second. Raises ProviderRejected with
    ``access_denied``, ``expired_token`` or another error code of the server. If the server is unavailable,
    retry until the code expires, and double the pause each time.
    """
    ends = clock() + authorization.expires_in
    interval, failures = authorization.interval, 0
    pause = interval
    while True:
        _wait(pause, ends, tick, clock, sleep)
        try:
            return server.device_token(authorization.device_code, scopes=scopes)
        except ProviderRejected as error:
            if error.error != "authorization_pending":
                raise
            failures, pause = 0, interval
        except ProviderUnavailable as error:
            if error.code == "malformed_response":  # the code was used, so a retry is refused
                raise
            if error.code in ("slow_down", "http_429"):
                interval += SLOW_DOWN
                failures, pause = 0, max(interval, error.retry_after or 0.0)
            else:
                failures += 1
                pause = max(interval, min(interval * 2**failures, MAX_PAUSE), error.retry_after or 0.0)


def _wait(
    pause: float,
    ends: float,
    tick: Callable[[float], None],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Sleep in steps of one second. Raises ProviderRejected if the code expires during the pause."""
    until = clock() + pause
    while (now := clock()) < until:
        if now >= ends:
            break
        tick(ends - now)
        sleep(min(1.0, until - now, ends - now))
    if clock() >= ends:
        raise ProviderRejected("The code expired before it was used. Start again.", error="expired_token")


def _seconds(body: Mapping[str, Any], name: str, default: float) -> float:
    found = lifetime(body.get(name))
    return found.total_seconds() if found else default


def _unusable(provider: Provider, why: str) -> ProviderMisconfigured:
    return ProviderMisconfigured(
        f"{provider.label} sent an unusable device authorization response. {why} Compare "
        f"device_authorization_endpoint of {provider.slug!r} with the provider's documentation.",
        error="malformed_device_authorization",
    )
