"""How a connection ends: local use stops first, then the provider is asked to revoke."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import Error, connections, router, transaction
from django.db.models import F, QuerySet

from oauth_connect import signals
from oauth_connect.engine.store import REVOKED
from oauth_connect.errors import ConnectionLocked, KeyUnavailable
from oauth_connect.models import history, machine
from oauth_connect.models.pending_revocation import PendingRevocation, TokenOf
from oauth_connect.models.revoking import RETRY, Attempt, attempt, can_revoke, conclude, revoke_now, siblings
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.stores.columns import UNLEASED
from oauth_connect.stores.placement import Placement, placement
from oauth_connect.stores.row import RowStore

if TYPE_CHECKING:
    from oauth_connect.models.connection import Connection

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


def disconnect(connection: Connection, *, actor: Any = None, by_staff: bool = False) -> None:
    """Forget the token and revoke it, in this order; both or neither with the caller's transaction."""
    alias = router.db_for_write(type(connection), instance=connection)
    with transaction.atomic(using=alias):
        row = _row(connection, alias)
        present = _held(row)
        # Not before that: a retry of oauth_prune's would come on top of the one below.
        pending = _keep(present, alias, datetime.now(UTC) + RETRY) if present is not None else None
        row.update(**FORGOTTEN, updated_at=datetime.now(UTC))
        connection.__dict__.update(FORGOTTEN, version=(present or connection).version)
        if present is not None and present.status != REVOKED:
            action = history.Action.REVOKED_BY_STAFF if by_staff else history.Action.DISCONNECTED
            history.record(present, action, actor=actor)
        transaction.on_commit(lambda: _ended(connection, pending), using=alias)


def keep_of_deleted(connection: Connection, alias: str) -> None:
    """Put aside what a row that is about to be deleted holds, so that it can be revoked.

    In the transaction of the deletion, which it never stops. The provider is asked by oauth_prune: many rows
    may go at once.
    """
    present = _held(_row(connection, alias))
    if present is None or (present.status == REVOKED and not present.sealed_token):
        return
    if can_revoke(present.provider, present.owner):
        _keep(present, alias, datetime.now(UTC))
    history.record(present, history.Action.DISCONNECTED)
    present.__dict__.update(FORGOTTEN)
    transaction.on_commit(lambda: _tell(present), using=alias)


def bury(connection: Connection, token: Token) -> None:
    """Revoke a token that was minted for a row that is gone, or keep it for oauth_prune.

    It is kept before the provider is asked, and where no rollback of the caller's undoes it.
    """
    alias = router.db_for_write(type(connection), instance=connection)
    give_back = _giving_back(alias)
    pending = PendingRevocation.of(connection)
    pending.next_attempt_at = datetime.now(UTC) + RETRY
    pending.seal(token)
    done: Attempt | None = None

    def keep(place: str) -> None:
        # On SQLite, inside a transaction: once that has ended, and so has the try below.
        if done is None or not done.over:
            pending.save(force_insert=True, using=place)

    _apart(connection, keep)

    def is_spared(what: TokenOf, provider: Provider) -> bool:
        # Not by the caller's snapshot, which may still show the row that is gone.
        def look(place: str) -> bool:
            return siblings(QuerySet(type(connection), using=place), what, provider).exists()

        return machine.run(alias, look)

    done = revoke_now(is_spared, pending, token, about_to_ask=give_back)
    if placement(alias) is not Placement.FOLLOWED:
        _apart(connection, partial(conclude, pending, done))
    give_back()


def _giving_back(alias: str) -> Callable[[], None]:
    """Return what closes this thread's database connection, if it is not open yet.

    One that was is the caller's own. Of many workers none holds one while HTTP runs.
    """
    database = connections[alias]
    return database.close if database.connection is None else lambda: None


def _apart(connection: Connection, statement: Callable[[str], None]) -> None:
    """Run a statement of a revocation where a refresh is saved; what fails is logged, and nothing stops."""

    def lost(error: Exception) -> None:
        details = {
            "action": "revocation_lost",
            "provider": connection.provider,
            "connection": str(connection.pk),
        }
        logger.error("a token that is to be revoked could not be kept", exc_info=error, extra=details)

    store = RowStore(connection, tell=lambda event: None, bury=lambda token: None)
    try:
        store.apart(statement, lost)
    except (Error, ConnectionLocked) as error:
        lost(error)


def _row(connection: Connection, alias: str) -> QuerySet[Connection]:
    return QuerySet(type(connection), using=alias).filter(pk=connection.pk)


def _held(row: QuerySet[Connection]) -> Connection | None:
    """Return the row as it is, held by this transaction; a refresh has saved by then, or finds it changed.

    It is written to before it is read: a transaction that has begun by reading cannot write on SQLite once
    somebody else has written, and behind an old snapshot it reads what was.
    """
    row.update(version=F("version") + 1, **UNLEASED)
    return row.first()


def _keep(connection: Connection, alias: str, next_attempt_at: datetime) -> PendingRevocation | None:
    """Put the sealed token aside before it leaves the row: a crash must not leave it alive and forgotten."""
    if not connection.sealed_token:
        return None
    pending = PendingRevocation.of(connection)
    pending.next_attempt_at = next_attempt_at
    try:
        pending.seal(connection.token)
    except KeyUnavailable:
        # No key opens it, so nobody can revoke it; forgetting it is all that is left.
        details = {
            "action": "token_unopened",
            "provider": connection.provider,
            "connection": str(connection.pk),
        }
        logger.warning("no key opens a token that ends: it cannot be revoked", extra=details)
        return None
    pending.save(using=alias)
    return pending


def _ended(connection: Connection, pending: PendingRevocation | None) -> None:
    if pending is not None:
        attempt(pending)
    _tell(connection)


def _tell(connection: Connection) -> None:
    signals.disconnected.send_robust(sender=type(connection), connection=connection)
