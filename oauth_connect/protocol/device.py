"""The device flow (RFC 8628): what the server says at its start, and how to wait for its end."""

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
from oauth_connect.protocol.grants import responses
from oauth_connect.protocol.grants.lifetimes import lifetime
from oauth_connect.protocol.net.destination import browsable
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token

INTERVAL = 5.0  # seconds, where the server names none (section 3.2)
SLOW_DOWN = 5.0  # seconds more, for good (section 3.5)
LONGEST_PAUSE = 60.0  # seconds between tries while the way to the server is down
LIFETIME = 900.0  # seconds, where the server leaves out what it must say
LONGEST_LIFETIME = 24 * 3600.0
LONGEST_USER_CODE = 64


@dataclass(frozen=True, slots=True, repr=False)
class DeviceAuthorization:
    """What a device flow begins with (RFC 8628 section 3.2). ``expires_in``, ``interval``: in seconds.

    ``verification_uri_complete`` is "" where the server sends none. ``user_code`` is fit for a terminal.
    """

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str = ""
    expires_in: float = LIFETIME
    interval: float = INTERVAL


class DeviceServer(Protocol):
    """What waiting asks of an authorization server."""

    def device_token(self, device_code: str, *, scopes: Iterable[str] = ()) -> Token: ...


def read_device_authorization(
    provider: Provider, status: int, answer: responses.Answer | None
) -> DeviceAuthorization:
    """Return what a device authorization endpoint answered (RFC 8628 section 3.2).

    Raises the errors of RFC 6749 section 5.2, and ProviderMisconfigured for an answer that must not be
    shown to a person: an address that is not https, a code that is missing.
    """
    if answer is None or responses.is_refusal(provider, answer) or not 200 <= status < 300:
        raise responses.refusal(provider, status, answer or responses.Answer())
    device_code = answer.get("device_code")
    user_code = printable_line(answer.get("user_code") or "", LONGEST_USER_CODE)
    if not device_code or not responses.is_printable(device_code) or not user_code:
        raise _unusable(provider, "It lacks a device_code or a user_code.")
    try:
        # Google and others wrote it before the RFC did, as verification_url.
        address = browsable(answer.get("verification_uri") or answer.get("verification_url"))
        complete = answer.get("verification_uri_complete")
        return DeviceAuthorization(
            device_code=str(device_code),
            user_code=user_code,
            verification_uri=address,
            verification_uri_complete=browsable(complete) if complete else "",
            expires_in=min(_seconds(answer, "expires_in", LIFETIME), LONGEST_LIFETIME),
            interval=_seconds(answer, "interval", INTERVAL),
        )
    except ForbiddenDestination as refused:
        raise _unusable(provider, str(refused)) from None


def await_token(
    server: DeviceServer,
    authorization: DeviceAuthorization,
    *,
    scopes: Iterable[str] = (),
    tick: Callable[[float], None] = lambda left: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Token:
    """Ask for the token until the user has answered (RFC 8628 sections 3.4 and 3.5).

    ``tick`` is called with the seconds left, about once a second. Raises ProviderRejected with
    ``access_denied`` or ``expired_token``, and whatever else the server says no with. A server that cannot
    be reached, or is ill, is asked again, each time after twice as long, until the code has run out.
    """
    ends = clock() + authorization.expires_in
    interval, lost = authorization.interval, 0
    pause = interval
    while True:
        _wait(pause, ends, tick, clock, sleep)
        try:
            return server.device_token(authorization.device_code, scopes=scopes)
        except ProviderRejected as error:
            if error.error != "authorization_pending":
                raise
            lost, pause = 0, interval
        except ProviderUnavailable as error:
            if error.code == "malformed_response":  # the code is spent, and asking again brings nothing
                raise
            if error.code == "slow_down":
                interval += SLOW_DOWN
                lost, pause = 0, interval
            else:
                lost += 1
                pause = max(interval, min(interval * 2**lost, LONGEST_PAUSE), error.retry_after or 0.0)


def _wait(
    pause: float,
    ends: float,
    tick: Callable[[float], None],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Sleep second by second. Raises ProviderRejected where the code runs out meanwhile."""
    until = clock() + pause
    while (now := clock()) < until:
        if now >= ends:
            break
        tick(ends - now)
        sleep(min(1.0, until - now, ends - now))
    if clock() >= ends:
        raise ProviderRejected("The code has run out before anybody used it.", error="expired_token")


def _seconds(answer: Mapping[str, Any], name: str, default: float) -> float:
    found = lifetime(answer.get(name))
    return found.total_seconds() if found else default


def _unusable(provider: Provider, why: str) -> ProviderMisconfigured:
    return ProviderMisconfigured(
        f"{provider.label} answered a device authorization that cannot be used. {why} Compare "
        f"device_authorization_endpoint of {provider.slug!r} with the provider's page.",
        error="malformed_device_authorization",
    )
