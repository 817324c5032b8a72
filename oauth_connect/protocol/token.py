"""An immutable access token. Its ``repr`` contains no secret, and it cannot be pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, Self

from oauth_connect.tracebacks import without_locals

PAUSE_AFTER_401 = timedelta(minutes=1)  # between two refreshes for 401s
OWN_PAUSE_AFTER_401 = timedelta(seconds=5)  # the same, for a client's own token


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """A token response (RFC 6749 section 5.1). Times are aware, in UTC.

    ``obtained_at`` is the time when the request *started*. Lifetimes count from then. Otherwise a slow
    response would make the token seem valid for too long. ``extra`` holds the response's other fields.
    ``exchangeable``: there is no refresh token, and the valid token can be exchanged for a newer one.
    ``reissuable``: the client's own token (section 4.4). The client can request another at any time.
    ``received_at``: the time when the response was there, or None if it is unknown.
    ``after_401``: requested because the API had refused the token before it.
    ``short_lived``: its response says that it lives for a few seconds at most, or not at all.
    ``names_scopes``: its response named scopes. Otherwise ``scopes`` are assumed, and nothing stores this.
    ``carried``: the access token of an earlier response. The latest one had only a usable refresh token.
    """

    access_token: str
    obtained_at: datetime
    refresh_token: str = ""
    token_type: str = "Bearer"
    scopes: tuple[str, ...] = ()
    expires_at: datetime | None = None
    refresh_token_expires_at: datetime | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    exchangeable: bool = False
    reissuable: bool = False
    carried: bool = False
    received_at: datetime | None = None
    after_401: bool = False
    short_lived: bool = False
    names_scopes: bool = field(default=False, compare=False)

    @property
    def renewable(self) -> bool:
        """Return whether the token can be refreshed, exchanged or issued again."""
        return bool(self.refresh_token) or self.exchangeable or self.reissuable

    @property
    def lifetime(self) -> timedelta | None:
        """The token's lifetime when it was issued, or None if it is unknown."""
        return None if self.expires_at is None else self.expires_at - self.obtained_at

    def leeway(self, wanted: timedelta) -> timedelta:
        """Return ``wanted``, but less for a short token, so that it stays usable.

        At most a quarter of its lifetime, and half of what a slow response left of it. Otherwise each call
        would refresh.
        """
        if self.expires_at is None:
            return wanted
        left = self.expires_at - (self.received_at or self.obtained_at)
        return min(wanted, (self.expires_at - self.obtained_at) / 4, max(left, timedelta(0)) / 2)

    def valid_for(self, wanted: timedelta, now: datetime) -> bool:
        """Return whether the token is valid for the (capped) leeway after ``now``, or has no known expiry."""
        return self.expires_at is None or now + self.leeway(wanted) < self.expires_at

    def is_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and now >= self.expires_at

    def is_refused_again(self, now: datetime) -> bool:
        """Return whether another refresh for a 401 is pointless: it is new, and was requested for one.

        A token is new for a minute, and a client's own token for five seconds. A client's own token that
        lives for less may have expired, and another one costs nothing. A token from the future was obtained
        by a machine with another clock, so its age says nothing.
        """
        if self.reissuable and self.short_lived:
            return False
        pause = OWN_PAUSE_AFTER_401 if self.reissuable else PAUSE_AFTER_401
        return self.after_401 and timedelta(0) <= now - self.obtained_at < pause

    def after(self, previous: Token) -> Token:
        """Return this token with the fields of ``previous`` that its response omitted.

        If the response has no refresh token, the old one stays valid (RFC 6749 section 6).
        """
        same = not self.refresh_token or self.refresh_token == previous.refresh_token
        return replace(
            self,
            refresh_token=self.refresh_token or previous.refresh_token,
            scopes=self.scopes if self.names_scopes else previous.scopes,
            refresh_token_expires_at=self.refresh_token_expires_at
            or (previous.refresh_token_expires_at if same else None),
            extra={**previous.extra, **self.extra},
        )

    def differs_from(self, other: Token) -> bool:
        """Return whether another token lacks what this one can be revoked by: its refresh token, if any."""
        if self.refresh_token:
            return self.refresh_token != other.refresh_token
        return self.access_token != other.access_token

    def carrying(self, refresh_token: str, expires_at: datetime | None) -> Token:
        """Return this token with a newer refresh token, which expires at ``expires_at``."""
        return replace(self, refresh_token=refresh_token, refresh_token_expires_at=expires_at, carried=True)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready mapping. It contains the secrets: seal it, and never show it."""
        return {
            "access_token": self.access_token,
            "refresh_token": self.refresh_token,
            "token_type": self.token_type,
            "scopes": list(self.scopes),
            "obtained_at": self.obtained_at.timestamp(),
            "expires_at": _timestamp(self.expires_at),
            "refresh_token_expires_at": _timestamp(self.refresh_token_expires_at),
            "extra": dict(self.extra),
            "exchangeable": self.exchangeable,
            "reissuable": self.reissuable,
            "carried": self.carried,
            "received_at": _timestamp(self.received_at),
            "after_401": self.after_401,
            "short_lived": self.short_lived,
        }

    @classmethod
    @without_locals
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            access_token=data["access_token"],
            refresh_token=data["refresh_token"],
            token_type=data["token_type"],
            scopes=tuple(data["scopes"]),
            obtained_at=datetime.fromtimestamp(data["obtained_at"], UTC),
            expires_at=_moment(data["expires_at"]),
            refresh_token_expires_at=_moment(data["refresh_token_expires_at"]),
            extra=data["extra"],
            exchangeable=data.get("exchangeable", False),
            reissuable=data.get("reissuable", False),
            carried=data.get("carried", False),
            received_at=_moment(data.get("received_at")),
            after_401=data.get("after_401", False),
            short_lived=data.get("short_lived", False),
        )

    def __repr__(self) -> str:
        expiry = (
            "no known expiry" if self.expires_at is None else f"expires {self.expires_at:%Y-%m-%d %H:%M:%SZ}"
        )
        return f"<Token {expiry}{', refreshable' if self.renewable else ''}>"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A Token cannot be pickled, because pickles reach caches and queues. Pass the connection's pk."
        )


def _timestamp(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _moment(timestamp: float | None) -> datetime | None:
    return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC)
