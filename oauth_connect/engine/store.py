"""What the engine asks of a place where a token lives."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from oauth_connect.protocol.token import Token

ACTIVE = "active"
REAUTHORIZATION_REQUIRED = "reauthorization_required"
REVOKED = "revoked"

Action = Literal["refreshed", "refresh_failed", "reauthorization_required"]


@dataclass(frozen=True, slots=True)
class LeaseState:
    """The little that waiting needs. ``leased`` is judged by the store's own clock."""

    version: int
    lease_owner: str
    failures: int
    leased: bool


@dataclass(frozen=True, slots=True)
class Row(LeaseState):
    """A stored token as one read saw it. ``version`` counts changes of the token's fate only.

    ``usable``: not so where the user whom it belongs to has been deactivated.
    """

    status: str
    token: Token | None
    client_id: str
    redirect_uri: str
    in_doubt: bool
    last_error: str
    refresh_at: datetime | None
    usable: bool


@dataclass(frozen=True, slots=True)
class Event:
    """Something to tell after the fact.

    ``alarm``: it concerns the provider's settings, not this token: they are wrong, or right again.
    ``scopes_before``: what was granted before a refresh; None where nothing was refreshed.
    """

    action: Action
    code: str = ""
    alarm: bool = False
    scopes_before: tuple[str, ...] | None = None


class TokenStore(Protocol):
    """One stored token. Every write is a single conditional statement, committed by itself."""

    @property
    def key(self) -> Hashable:
        """The same for two stores exactly where they mean the same token."""

    def read(self) -> Row | None:
        """Read the present state, never a replica's or a snapshot's; None when it is gone."""

    def peek(self) -> LeaseState | None: ...

    def claim(self, seen: Row, owner: str, seconds: float) -> bool:
        """Take the lease if the version is the one seen and the lease is free or has run out.

        Over an unfinished lease the token becomes ``in_doubt``. Raises ConnectionLocked.
        """

    def check_writable(self) -> None:
        """Raise KeyUnavailable unless a token could be sealed and opened now."""

    def save(self, seen: Row, owner: str, token: Token, refresh_at: datetime | None) -> Row | None:
        """Store a new token if the version is the one seen *or* the lease is the owner's.

        Frees only the owner's lease. None when neither held.
        """

    def defer(self, seen: Row, owner: str, *, code: str, until: datetime, in_doubt: bool) -> None:
        """Free the lease after a failure, count it, and say when to try again."""

    def mark(self, seen: Row, owner: str, reason: str) -> bool:
        """Mark as needing the user, if the version is the one seen *and* the lease is the owner's."""

    def release(self, owner: str) -> None:
        """Free the owner's lease; nothing has been sent."""

    def adopt(self, row: Row) -> None:
        """Take over what was read or saved, so that the caller's own copy is the present one."""

    def orphaned(self, token: Token) -> None:
        """Take care of a token whose row is gone: it must be revoked."""

    def announce(self, event: Event) -> None:
        """Tell the site; called after the commit and outside of all locks."""
