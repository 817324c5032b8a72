"""The interface that the engine requires of a token store."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from oauth_connect.protocol.token import Token

ACTIVE = "active"
REAUTHORIZATION_REQUIRED = "reauthorization_required"
REVOKED = "revoked"
# A reason for REAUTHORIZATION_REQUIRED: a refresh returned the token of another account.
ACCOUNT_CHANGED = "account_changed"

Action = Literal["refreshed", "refresh_failed", "reauthorization_required"]


@dataclass(frozen=True, slots=True)
class LeaseState:
    """The columns that a waiting caller polls. The store's own clock decides ``leased``."""

    version: int
    lease_owner: str
    failures: int
    leased: bool


@dataclass(frozen=True, slots=True)
class Row(LeaseState):
    """A stored token as of one read.

    ``version`` counts saves, reconnects and disconnects, not failures. ``error_since``: since when
    ``last_error`` has been the same, or None if the store does not know. ``usable``: False if the token's
    user has been deactivated.
    """

    status: str
    token: Token | None
    client_id: str
    redirect_uri: str
    in_doubt: bool
    last_error: str
    error_since: datetime | None
    refresh_at: datetime | None
    usable: bool


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened, to be announced.

    ``alarm``: it concerns the provider's settings, not this token. They are wrong, or correct again.
    ``scopes_before``: the scopes granted before a refresh, or None if nothing was refreshed. ``endpoint``:
    the field of the provider whose endpoint the failed request went to.
    """

    action: Action
    code: str = ""
    alarm: bool = False
    scopes_before: tuple[str, ...] | None = None
    endpoint: str = ""


class TokenStore(Protocol):
    """One stored token. Every write is a single conditional statement in its own transaction."""

    @property
    def key(self) -> Hashable:
        """Identifies the token: equal for two stores if and only if they hold the same token."""

    def read(self) -> Row | None:
        """Return the current state, never from a replica or a snapshot. None: the token is gone."""

    def peek(self) -> LeaseState | None: ...

    def claim(self, seen: Row, owner: str, seconds: float) -> bool:
        """Take the lease if the version is the one in ``seen`` and the lease is free or has expired.

        If it takes over an expired lease, the token becomes ``in_doubt``. Raises ConnectionLocked.
        """

    def check_writable(self) -> None:
        """Raise KeyUnavailable unless a token can be sealed and unsealed now."""

    def save(
        self,
        seen: Row,
        owner: str,
        token: Token,
        refresh_at: datetime | None,
        *,
        failure: str = "",
        reason: str = "",
    ) -> Row | None:
        """Store a new token if the version is the one in ``seen`` *or* the lease is the owner's.

        Release only the owner's lease. Return None if neither condition holds. ``failure``: the code of a
        response of which only the refresh token is usable. It counts as a failure, as in ``defer``.
        ``reason``: the user must reconnect nevertheless, as in ``mark``, and the token is only kept.
        """

    def defer(self, seen: Row, owner: str, *, code: str, until: datetime, in_doubt: bool) -> None:
        """Release the lease after a failure, count the failure, and set when to retry."""

    def mark(self, seen: Row, owner: str, reason: str) -> bool:
        """Mark that the user must reconnect, if version *and* lease owner are unchanged; return whether."""

    def release(self, owner: str) -> None:
        """Release the owner's lease. Nothing has been sent."""

    def refreshed_another(self, client_id: str, since: datetime) -> bool:
        """Return whether another token of this provider and client was refreshed after a time."""

    def adopt(self, row: Row) -> None:
        """Copy a row that was read or saved into the caller's own instance."""

    def orphaned(self, token: Token, *, account_changed: bool = False) -> None:
        """Keep a token that no save could store, or revoke it if its row is gone.

        It lives at the provider, and must be revoked when its connection ends. ``account_changed``: it
        belongs to another account, which is unknown.
        """

    def announce(self, event: Event) -> None:
        """Report an event to the site. Called after the commit and outside of all locks."""
