"""Which of an owner's accounts at a provider is used, and which is replaced by a new one."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import router, transaction
from django.db.models import Max, QuerySet

from oauth_connect.models import Connection, Owner
from oauth_connect.tracebacks import without_locals

logger = logging.getLogger("oauth_connect")


@without_locals
def account_in_use(connections: Sequence[Connection]) -> Connection | None:
    """Return the one of an owner's connections to a provider that calls use; None if it must be chosen.

    The account that the owner has chosen comes first, even if it must be connected again: calls must not move
    to another account unnoticed. ``connections``: at least one, and none that is disconnected.
    """
    chosen = [(row.chosen_at, row.pk, row) for row in connections if row.chosen_at is not None]
    if chosen:
        return max(chosen)[-1]
    active = [row for row in connections if row.status == Connection.Status.ACTIVE]
    if not active:
        return max(connections, key=lambda row: row.updated_at)
    return active[0] if len(active) == 1 else None


@without_locals
def active_accounts(owner: Owner, provider: str) -> list[Connection]:
    """Return the connections that the owner can choose from."""
    rows = _rows(owner, provider).filter(status=Connection.Status.ACTIVE)
    return [row for row in rows.order_by("account_label", "created_at") if row.owner_agrees]


@without_locals
def choose(owner: Owner, provider: str, pk: uuid.UUID) -> Connection:
    """Let calls use this one of the owner's active accounts. Raises Connection.DoesNotExist for others."""
    for connection in active_accounts(owner, provider):
        if connection.pk == pk:
            rows = _rows(owner, provider)
            before = rows.aggregate(newest=Max("chosen_at"))["newest"]
            now = datetime.now(UTC)
            # The machine where the owner chose before may have a clock that is ahead.
            connection.chosen_at = max(now, before + timedelta(microseconds=1)) if before else now
            # It may have been disconnected meanwhile, and its next connection must not be chosen already.
            if rows.filter(pk=pk, status=Connection.Status.ACTIVE).update(chosen_at=connection.chosen_at):
                return connection
    raise Connection.DoesNotExist


@without_locals
def replaceable(owner: Owner, provider: str, connection: Connection | None = None) -> list[Connection]:
    """Return the accounts that are disconnected when another one is connected (``one_account``).

    ``connection``: the one that is connected, which stays.
    """
    rows = _rows(owner, provider).exclude(status=Connection.Status.REVOKED).order_by("created_at")
    kept = connection.pk if connection else None
    return [row for row in rows if row.owner_agrees and row.pk != kept]


@without_locals
def replace_others(owner: Owner, connection: Connection, *, actor: Any = None) -> None:
    """Disconnect the owner's other accounts at the provider of this connection, which is stored already.

    Two flows that end in parallel leave one account: the rows are locked in one order, and the flow whose
    account was replaced meanwhile replaces nothing. A failure is logged. The new account stays connected.
    """
    try:
        others = replaceable(owner, connection.provider, connection)
        if not others:
            return
        with transaction.atomic(using=router.db_for_write(Connection)):
            locked = _lock(owner, connection.provider, [connection, *others])
            present = [row for row in replaceable(owner, connection.provider) if row.pk in locked]
            if connection not in present:
                return
            for other in present:
                if other != connection:
                    other.disconnect(actor=actor)
    except Exception as error:
        details = {
            "action": "replace_failed",
            "provider": connection.provider,
            "connection": str(connection.pk),
        }
        logger.warning(
            "an account was connected, and the one that it replaces was not disconnected: %s",
            type(error).__name__,
            extra=details,
        )


def _rows(owner: Owner, provider: str) -> QuerySet[Connection]:
    """Return the owner's connections to a provider, read where they are written."""
    rows = Connection.objects.using(router.db_for_write(Connection))
    return rows.for_owner(owner).filter(provider=provider)


def _lock(owner: Owner, provider: str, connections: Sequence[Connection]) -> list[uuid.UUID]:
    """Lock rows by writing them. SQLite has no other lock, and a fixed order prevents deadlocks."""
    pks = sorted(row.pk for row in connections)
    for pk in pks:
        _rows(owner, provider).filter(pk=pk).update(updated_at=datetime.now(UTC))
    return pks
