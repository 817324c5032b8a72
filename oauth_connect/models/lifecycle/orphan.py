"""A token that was issued for a row which could not take it: connected again or disconnected meanwhile.

It is stored before a request is sent. A rollback of the caller's transaction does not undo that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from django.db import Error, OperationalError, connections, router

from oauth_connect.engine.store import REVOKED
from oauth_connect.errors import ConnectionLocked
from oauth_connect.models.lifecycle import revocation
from oauth_connect.models.pending_revocation import PendingRevocation
from oauth_connect.models.row import ConnectionRow, rows_of
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.stores.connection_state import State
from oauth_connect.stores.lock_timeouts import is_conflict, is_locked
from oauth_connect.stores.row import CLAIM_WAIT, RowStore
from oauth_connect.stores.transactions import Placement, outside_transaction, placement, write_transaction

logger = logging.getLogger("oauth_connect")
MAX_TRIES = 3


def keep_or_revoke(
    connection: ConnectionRow, token: Token, *, account_changed: bool = False, state: State | None = None
) -> None:
    """Keep the token until the connection ends, or revoke it now if the connection has ended.

    ``account_changed``: it belongs to another account than the connection, which is unknown. ``state``: of
    the caller's database connection; by default it is read if needed.
    """
    Orphan(connection, token, account_changed, state).keep_or_revoke()


class Orphan:
    """One token that no row holds, and the connection that it was issued for."""

    def __init__(
        self, connection: ConnectionRow, token: Token, account_changed: bool, state: State | None
    ) -> None:
        self.connection = connection
        self.token = token
        self.state = state
        self.alias = router.db_for_write(type(connection), instance=connection)
        self.pending = PendingRevocation.of(connection)
        if account_changed:
            self.pending.account_id, self.pending.account_changed = None, True
        self.pending.seal(token)
        self.has_row: bool | None = None
        self.done: revocation.Attempt | None = None

    def keep_or_revoke(self) -> None:
        close_own = _closing_own_connection(self.alias)
        self._outside_transaction(self._store)
        if self.has_row is None:  # not stored yet, or it could not be stored
            self.has_row = outside_transaction(self.alias, CLAIM_WAIT, self._find_row, state=self.state)
        if not self.has_row:
            self.done = revocation.revoke_now(
                self.pending, self.token, self._is_spared_outside, before_request=close_own
            )
            if placement(self.alias) is not Placement.CALLER_THEN_REPEAT:
                self._outside_transaction(self._conclude)
        close_own()

    def _store(self, alias: str) -> None:
        # SQLite runs this after the caller's transaction. The request may be over by then.
        if self.done is not None and self.done.over:
            return
        with write_transaction(alias, PendingRevocation._meta.db_table):
            # First the row, as a reconnect and a disconnect do. Otherwise they could deadlock with this.
            self.has_row = self._find_row(alias, lock=True)
            if self.has_row:
                revocation.keep_aside(self.pending, self.token, alias)
            else:
                self.pending.next_attempt_at = datetime.now(UTC) + revocation.RETRY_PAUSE
                self.pending.save(force_insert=True, using=alias)

    def _find_row(self, alias: str, *, lock: bool = False) -> bool:
        """Return whether the connection has not ended.

        ``lock``: a disconnect waits until this transaction is over, and then finds the kept token.
        """
        rows = rows_of(type(self.connection), alias).filter(pk=self.connection.id)
        if lock:
            rows = rows.select_for_update()
        return any(status != REVOKED for status in rows.values_list("status", flat=True))

    def _is_spared(self, alias: str, provider: Provider) -> bool:
        rows = rows_of(type(self.connection), alias)
        return revocation.is_in_use(rows, self.pending.grant_key(), self.token, provider)

    def _is_spared_outside(self, provider: Provider) -> bool:
        # The snapshot of the caller's transaction may still show the row that is gone.
        return outside_transaction(
            self.alias, CLAIM_WAIT, lambda own: self._is_spared(own, provider), state=self.state
        )

    def _conclude(self, alias: str) -> None:
        assert self.done is not None  # noqa: S101  (after the request)
        if self.done.outcome == "spared":
            revocation.keep_again(self.pending, alias, lambda provider: self._is_spared(alias, provider))
        else:
            revocation.conclude(self.pending, self.done, alias)

    def _outside_transaction(self, statement: Callable[[str], None]) -> None:
        """Run a statement where a refresh would be saved. Log an error instead of raising it."""
        store = RowStore(
            self.connection,
            on_event=lambda event: None,
            on_orphan=lambda *token, **of: None,
            state=self.state,
        )
        for tries_left in reversed(range(MAX_TRIES)):
            try:
                store.outside_transaction(statement, self._lost)
                break
            except (Error, ConnectionLocked) as error:
                conflict = isinstance(error, OperationalError) and (is_conflict(error) or is_locked(error))
                if not (conflict and tries_left):
                    self._lost(error)
                    break

    def _lost(self, error: Exception) -> None:
        details = {
            "action": "revocation_lost",
            "provider": self.connection.provider,
            "connection": str(self.connection.pk),
        }
        logger.error("a token that must be revoked could not be stored", exc_info=error, extra=details)


def _closing_own_connection(alias: str) -> Callable[[], None]:
    """Return a function that closes this thread's database connection, if it is not open yet.

    An open one belongs to the caller. Workers must hold none while they send a request.
    """
    database = connections[alias]
    return database.close if database.connection is None else lambda: None
