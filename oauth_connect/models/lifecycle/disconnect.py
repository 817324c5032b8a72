"""Ends connections: first stops local use, then asks the provider to revoke what it has issued for them."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Any

from django.db import router, transaction
from django.db.models import F, QuerySet

from oauth_connect import signals
from oauth_connect.conf import conf
from oauth_connect.engine.store import REVOKED
from oauth_connect.errors import KeyUnavailable, OwnerMismatch
from oauth_connect.models.lifecycle import history
from oauth_connect.models.lifecycle.revocation import (
    RETRY_PAUSE,
    attempt,
    can_revoke,
    make_kept_due,
)
from oauth_connect.models.owner import check_actor
from oauth_connect.models.pending_revocation import PendingRevocation
from oauth_connect.models.row import ConnectionRow, R, rows_of
from oauth_connect.stores.columns import UNLEASED
from oauth_connect.stores.lock_timeouts import retried

logger = logging.getLogger("oauth_connect")
FORGOTTEN: dict[str, Any] = {
    "sealed_token": None,
    "status": REVOKED,
    "expires_at": None,
    "refresh_at": None,
    "error_since": None,
    "last_error": "",
    "failures": 0,
    "in_doubt": False,
    "chosen_at": None,
    **UNLEASED,
}


def disconnect(connection: ConnectionRow, *, actor: Any = None, by_staff: bool = False) -> None:
    """Forget the token, then revoke it. If the caller's transaction rolls back, neither happens.

    Tokens that were kept for the account are revoked too. ``actor``: the user who requested it;
    ``by_staff``: the actor is not the owner. Both are for the history. Raises OwnerMismatch.
    """
    check_actor(actor)
    alias = router.db_for_write(type(connection), instance=connection)
    # Several connections of one account may end in parallel, and each makes the tokens due that are kept for
    # it. MariaDB under REPEATABLE READ locks their whole range, and ends one of the transactions.
    retried(alias, lambda: _disconnect(connection, alias, actor, by_staff), only_deadlocks=True)


def _disconnect(connection: ConnectionRow, alias: str, actor: Any, by_staff: bool) -> None:
    with transaction.atomic(using=alias):
        row = rows_of(type(connection), alias).filter(pk=connection.id)
        present = _lock(row)
        if present is not None:
            present.check_owner()
            if connection.__dict__.get("owner", present.owner) != present.owner:
                raise OwnerMismatch(
                    "The connection has another owner than when it was loaded. It was not disconnected. "
                    "Load it again."
                )
        # Due later: oauth_prune must not repeat the requests that follow the commit.
        retry_at = datetime.now(UTC) + RETRY_PAUSE
        queued = _end(present, alias, retry_at) if present is not None else []
        row.update(**FORGOTTEN, updated_at=datetime.now(UTC))
        connection.__dict__.update(FORGOTTEN, version=(present or connection).version)
        if present is not None and present.status != REVOKED:
            action = history.Action.REVOKED_BY_STAFF if by_staff else history.Action.DISCONNECTED
            history.record(present, action, actor=actor)
        transaction.on_commit(lambda: _after_commit(connection, present, queued, alias), using=alias)


def _end(present: ConnectionRow, alias: str, next_attempt_at: datetime) -> list[PendingRevocation]:
    """Store the token of a row that ends, and return what to revoke: first that, then what was kept."""
    pending = _queue_revocation(present, alias, next_attempt_at)
    kept = make_kept_due(present, alias, next_attempt_at)
    return [*([] if pending is None else [pending]), *kept]


def queue_revocation_of_deleted(connection: ConnectionRow, alias: str) -> None:
    """Store the token of a row that will be deleted, so that oauth_prune can revoke it.

    Runs in the transaction of the deletion, and never stops it. Sends nothing now, because many rows may be
    deleted together.
    """
    present = _lock(rows_of(type(connection), alias).filter(pk=connection.id))
    if present is None or (present.status == REVOKED and not present.sealed_token):
        return
    if can_revoke(present.provider, present.owner):
        _end(present, alias, datetime.now(UTC))
    history.record(present, history.Action.DISCONNECTED)
    present.__dict__.update(FORGOTTEN)

    transaction.on_commit(lambda: _send_signal(present), using=alias)
    # An error must not end the deletion's other callbacks, which may be the site's.
    transaction.on_commit(lambda: _make_kept_due_again(present, alias), using=alias, robust=True)


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


def _after_commit(
    connection: ConnectionRow, present: ConnectionRow | None, queued: list[PendingRevocation], alias: str
) -> None:
    """Revoke what was queued, within one HTTP time-out for all that was kept. oauth_prune does the rest."""
    if present is not None:
        _make_kept_due_again(present, alias)
    deadline: float | None = None
    for pending in queued:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            break
        if attempt(pending, type(connection), timeout=left).outcome == "pending":
            break
        deadline = deadline or time.monotonic() + conf.http_timeout
    _send_signal(connection)


def _make_kept_due_again(present: ConnectionRow, alias: str) -> None:
    """A parallel attempt may have kept a token again, because it did not see yet that this one ends.

    A deadlock is repeated here, not with the transaction, which is committed.
    """
    retried(alias, lambda: make_kept_due(present, alias, datetime.now(UTC)), only_deadlocks=True)


def _send_signal(connection: ConnectionRow) -> None:
    signals.disconnected.send_robust(sender=type(connection), connection=connection)
