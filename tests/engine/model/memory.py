"""The statements of ``stores/row.py`` over a row in memory, with a clock that a test moves.

``test_memory.py`` shows that they do what the real statements do on the test database.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from oauth_connect.engine.store import ACTIVE, REAUTHORIZATION_REQUIRED, REVOKED, LeaseState, Row
from oauth_connect.protocol.token import Token


@dataclass
class Clock:
    """The database's clock, in seconds. ``skew``: how wrong that of the machine is which asks."""

    seconds: float = 0.0
    skew: float = 0.0


@dataclass
class MemoryRow:
    """The columns of one connection."""

    clock: Clock
    token: Token | None
    version: int = 0
    lease_owner: str = ""
    lease_until: float = 0.0
    in_doubt: bool = False
    status: str = ACTIVE
    failures: int = 0
    last_error: str = ""
    refresh_at: datetime | None = None
    client_id: str = "client"
    kept: list[Token] = field(default_factory=list)
    revoked: list[Token] = field(default_factory=list)

    def is_leased(self) -> bool:
        return self.lease_owner != "" and self.lease_until > self.clock.seconds

    def unlease(self) -> None:
        self.lease_owner = ""

    def seen(self) -> Row:
        return Row(
            version=self.version,
            lease_owner=self.lease_owner,
            failures=self.failures,
            leased=self.is_leased(),
            status=self.status,
            token=self.token,
            client_id=self.client_id,
            redirect_uri="",
            in_doubt=self.in_doubt,
            last_error=self.last_error,
            error_since=None,  # the model's provider names a reason each time
            refresh_at=self.refresh_at,
            usable=True,
        )

    def put(self, token: Token, refresh_at: datetime | None) -> None:
        """Set what every new token sets."""
        self.token = token
        self.status = ACTIVE
        self.refresh_at = refresh_at
        self.failures = 0
        self.last_error = ""
        self.in_doubt = False
        self.version += 1

    def replace(self, token: Token, refresh_at: datetime | None) -> None:
        """Put the token of a consent, and set aside what the row does not hold any more."""
        if self.token is not None and self.last_error != "revoked" and self.token.differs_from(token):
            self.kept.append(self.token)
        self.put(token, refresh_at)


class MemoryStore:
    """The part of a TokenStore that changes the row."""

    def __init__(self, row: MemoryRow) -> None:
        self.row = row

    def read(self) -> Row | None:
        return self.row.seen()

    def peek(self) -> LeaseState | None:
        row = self.row
        return LeaseState(row.version, row.lease_owner, row.failures, row.is_leased())

    def claim(self, seen: Row, owner: str, seconds: float) -> bool:
        row = self.row
        if row.version != seen.version:
            return False
        if row.status != seen.status:
            return False
        if row.failures != seen.failures:
            return False
        if row.is_leased():
            return False
        if row.lease_owner:
            row.in_doubt = True
        row.lease_owner, row.lease_until = owner, row.clock.seconds + seconds
        return True

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
        row = self.row
        same, mine = row.version == seen.version, row.lease_owner == owner
        if not (same or mine):
            return None
        doubt = row.in_doubt and row.status != REAUTHORIZATION_REQUIRED
        row.put(token, refresh_at)
        if failure:
            row.failures, row.last_error = seen.failures + 1, failure
        if reason:
            row.status, row.last_error = REAUTHORIZATION_REQUIRED, reason
        if not mine:
            row.in_doubt = doubt
        if mine:
            row.unlease()
        # The real one returns what it wrote, and leaves out a doubt and a lease that stay in the row.
        return replace(row.seen(), lease_owner="", leased=False, in_doubt=False)

    def defer(self, seen: Row, owner: str, *, code: str, until: datetime, in_doubt: bool) -> None:
        row = self.row
        if row.lease_owner != owner:
            return
        row.in_doubt = row.in_doubt or in_doubt
        row.unlease()
        if row.version == seen.version:
            row.failures += 1
            row.last_error = code
            row.refresh_at = until

    def mark(self, seen: Row, owner: str, reason: str) -> bool:
        row = self.row
        if row.version != seen.version:
            return False
        if row.lease_owner != owner:
            return False
        row.status = REAUTHORIZATION_REQUIRED
        row.last_error = reason
        row.refresh_at = None
        row.unlease()
        return True

    def release(self, owner: str) -> None:
        if self.row.lease_owner == owner:
            self.row.unlease()

    # --- what a person does ---------------------------------------------------------------------

    def reconnect(self, token: Token, refresh_at: datetime | None) -> None:
        """A consent that gave a refresh token: whoever holds the lease refreshes what is now the past."""
        self.row.replace(token, refresh_at)
        self.row.unlease()

    def consent_again(self, seen: Row, token: Token, refresh_at: datetime | None) -> bool:
        """A consent that left the refresh token out: ``token`` has that of the row seen."""
        row = self.row
        if row.version != seen.version:
            return False
        doubt = row.in_doubt
        row.replace(token, refresh_at)
        row.in_doubt = doubt
        return True

    def disconnect(self) -> None:
        row = self.row
        row.revoked += [row.token] if row.token else []
        row.revoked += row.kept
        row.kept = []
        row.token = None
        row.status = REVOKED
        row.refresh_at = None
        row.last_error, row.failures, row.in_doubt = "", 0, False
        row.version += 1
        row.unlease()

    def orphaned(self, token: Token, *, account_changed: bool = False) -> None:
        if self.row.status == REVOKED:
            self.row.revoked.append(token)
        else:
            self.row.kept.append(token)
