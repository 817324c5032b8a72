"""Ends connections: first stops local use, then asks the provider to revoke the token."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.db import Error, connections, router, transaction
from django.db.models import F, QuerySet

from oauth_connect import signals
from oauth_connect.engine.store import REVOKED
from oauth_connect.errors import ConnectionLocked, KeyUnavailable
from oauth_connect.models.lifecycle import history
from oauth_connect.models.lifecycle.revocation import (
    RETRY_PAUSE,
    Attempt,
    attempt,
    can_revoke,
    conclude,
    revoke_now,
    siblings,
)
from oauth_connect.models.pending_revocation import GrantKey, PendingRevocation
from oauth_connect.models.row import ConnectionRow, R, rows_of
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.stores.columns import UNLEASED
from oauth_connect.stores.row import CLAIM_WAIT, RowStore
from oauth_connect.stores.transactions import Placement, outside_transaction, placement

logger = logging.getLogger("oauth_connect")
FORGOTTEN: dict[str, Any] = {
    "sealed_token": None,
    "status": REVOKED,
    "expires_at": None,
    "refresh_at": None,
    "last_error": "",
    "failures": 0,
    "in_doubt": False,
    **UNLEASED,
}


def disconnect(connection: ConnectionRow, *, actor: Any = None, by_staff: bool = False) -> None:
    """Forget the token, then revoke it. If the caller's transaction rolls back, neither happens.

    ``actor``: the user who requested it; ``by_staff``: the actor is not the owner. Both are for the history.
    """
    alias = router.db_for_write(type(connection), instance=connection)
    with transaction.atomic(using=alias):
        row = rows_of(type(connection), alias).filter(pk=connection.pk)
        present = _lock(row)
        # Due later: oauth_prune must not repeat the request that follows the commit.
        retry_at = datetime.now(UTC) + RETRY_PAUSE
        pending = _queue_revocation(present, alias, retry_at) if present is not None else None
        row.update(**FORGOTTEN, updated_at=datetime.now(UTC))
        connection.__dict__.update(FORGOTTEN, version=(present or connection).version)
        if present is not None and present.status != REVOKED:
            action = history.Action.REVOKED_BY_STAFF if by_staff else history.Action.DISCONNECTED
            history.record(present, action, actor=actor)
        transaction.on_commit(lambda: _after_commit(connection, pending), using=alias)


def queue_revocation_of_deleted(connection: ConnectionRow, alias: str) -> None:
    """Store the token of a row that will be deleted, so that oauth_prune can revoke it.

    Runs in the transaction of the deletion, and never stops it. Sends nothing now, because many rows may be
    deleted together.
    """
    present = _lock(rows_of(type(connection), alias).filter(pk=connection.pk))
    if present is None or (present.status == REVOKED and not present.sealed_token):
        return
    if can_revoke(present.provider, present.owner):
        _queue_revocation(present, alias, datetime.now(UTC))
    history.record(present, history.Action.DISCONNECTED)
    present.__dict__.update(FORGOTTEN)
    transaction.on_commit(lambda: _send_signal(present), using=alias)


def revoke_orphan(connection: ConnectionRow, token: Token) -> None:
    """Revoke a token that was issued for a row that is gone, or store it for oauth_prune.

    It is stored before the request is sent, and a rollback of the caller's transaction does not undo that.
    """
    alias = router.db_for_write(type(connection), instance=connection)
    close_own = _closing_own_connection(alias)
    pending = PendingRevocation.of(connection)
    pending.next_attempt_at = datetime.now(UTC) + RETRY_PAUSE
    pending.seal(token)
    done: Attempt | None = None

    def insert(own: str) -> None:
        # SQLite runs this after the caller's transaction. The request below may be over by then.
        if done is None or not done.over:
            pending.save(force_insert=True, using=own)

    _outside_transaction(connection, insert)

    def is_spared(grant: GrantKey, provider: Provider) -> bool:
        # Outside the caller's transaction: its snapshot may still show the row that is gone.
        def exists(own: str) -> bool:
            return siblings(rows_of(type(connection), own), grant, provider).exists()

        return outside_transaction(alias, CLAIM_WAIT, exists)

    done = revoke_now(is_spared, pending, token, before_request=close_own)
    if placement(alias) is not Placement.CALLER_THEN_REPEAT:
        _outside_transaction(connection, partial(conclude, pending, done))
    close_own()


def _closing_own_connection(alias: str) -> Callable[[], None]:
    """Return a function that closes this thread's database connection, if it is not open yet.

    An open one belongs to the caller. Workers must hold none while they send a request.
    """
    database = connections[alias]
    return database.close if database.connection is None else lambda: None


def _outside_transaction(connection: ConnectionRow, statement: Callable[[str], None]) -> None:
    """Run a statement of a revocation where a refresh would be saved. Log an error instead of raising it."""

    def on_failure(error: Exception) -> None:
        details = {
            "action": "revocation_lost",
            "provider": connection.provider,
            "connection": str(connection.pk),
        }
        logger.error("a token that must be revoked could not be stored", exc_info=error, extra=details)

    store = RowStore(connection, on_event=lambda event: None, on_orphan=lambda token: None)
    try:
        store.outside_transaction(statement, on_failure)
    except (Error, ConnectionLocked) as error:
        on_failure(error)


def _lock(row: QuerySet[R]) -> R | None:
    """Return the present row, locked by this transaction; a refresh in flight then finds another version.

    Write before reading. On SQLite a transaction that began with a read cannot write after another writer
    has; elsewhere an old snapshot would show an old row.
    """
    row.update(version=F("version") + 1, **UNLEASED)
    return row.first()


def _queue_revocation(
    connection: ConnectionRow, alias: str, next_attempt_at: datetime
) -> PendingRevocation | None:
    """Store the sealed token before it leaves the row, so that a crash cannot leave it valid but lost."""
    if not connection.sealed_token:
        return None
    pending = PendingRevocation.of(connection)
    pending.next_attempt_at = next_attempt_at
    try:
        pending.seal(connection.token)
    except KeyUnavailable:
        # No key opens it, so it cannot be revoked. Forget it.
        details = {
            "action": "token_unopened",
            "provider": connection.provider,
            "connection": str(connection.pk),
        }
        logger.warning("no key opens the token of a connection that ends: not revoked", extra=details)
        return None
    pending.save(using=alias)
    return pending


def _after_commit(connection: ConnectionRow, pending: PendingRevocation | None) -> None:
    if pending is not None:
        attempt(pending, type(connection))
    _send_signal(connection)


def _send_signal(connection: ConnectionRow) -> None:
    signals.disconnected.send_robust(sender=type(connection), connection=connection)
