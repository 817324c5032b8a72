"""Writes the history of connections: who did what, when, and how refreshes went. It holds no token.

If the history cannot be written, the error is logged. No token is lost and no call fails because of it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections, router, transaction

from oauth_connect.conf import conf
from oauth_connect.engine.store import Event
from oauth_connect.models.connection_event import ConnectionEvent
from oauth_connect.models.owner import id_of
from oauth_connect.models.row import ConnectionRow
from oauth_connect.protocol.grants.error_codes import shown
from oauth_connect.stores.compiled import insert
from oauth_connect.stores.lock_timeouts import commits_by_itself, is_locked, savepoint
from oauth_connect.stores.row import RowStore

__all__ = ["Action", "of", "record", "write"]

logger = logging.getLogger("oauth_connect")
Action = ConnectionEvent.Action
BATCH = 500  # rows of one INSERT


def of(
    connection: ConnectionRow,
    action: str,
    *,
    actor: Any = None,
    error: str = "",
    detail: Mapping[str, Any] | None = None,
) -> ConnectionEvent:
    """Return an entry that is not written yet. ``actor``: the user who acted; None: no person did.

    Only known words of ``error`` are kept, because a provider may write anything there.
    """
    entry = ConnectionEvent(
        connection_id=connection.id,
        provider=connection.provider,
        owner=connection.owner,
        actor_id=None if actor is None else id_of(actor),
        action=action,
        error=shown(error) if error else "",
        detail=dict(detail or {}),
    )
    # Written to the database of its connection.
    entry._state.db = connection._state.db
    return entry


def of_refresh(connection: ConnectionRow, event: Event) -> list[ConnectionEvent]:
    """Return the entries for an event of the engine. ``connection``: the refreshed instance."""
    entry = of(connection, event.action, error=event.code)
    return [entry, *of_scopes(connection, event.scopes_before)]


def of_connecting(
    connection: ConnectionRow, scopes_before: Iterable[str] | None, actor: Any
) -> list[ConnectionEvent]:
    """Return the entries for a connected account. ``scopes_before``: None where it is new."""
    entry = of(connection, Action.CONNECTED, actor=actor)
    return [entry, *of_scopes(connection, scopes_before, actor=actor)]


def of_scopes(
    connection: ConnectionRow, before: Iterable[str] | None, *, actor: Any = None
) -> list[ConnectionEvent]:
    """Return an entry if the granted scopes differ from ``before``; None: those are unknown."""
    if before is None or set(before) == set(connection.scopes):
        return []
    detail = {
        "added": sorted(set(connection.scopes) - set(before)),
        "removed": sorted(set(before) - set(connection.scopes)),
    }
    return [of(connection, Action.SCOPES_CHANGED, actor=actor, detail=detail)]


def record(
    connection: ConnectionRow,
    action: str,
    *,
    actor: Any = None,
    error: str = "",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write one entry, in the caller's transaction where there is one. Raises nothing."""
    write([of(connection, action, actor=actor, error=error, detail=detail)])


def write(entries: Iterable[ConnectionEvent], store: RowStore | None = None) -> None:
    """Write entries, with one INSERT for each batch. Raises nothing.

    They are part of the caller's transaction. With a ``store``: they are written where a refresh of its row
    is saved, so that a rollback of the caller does not undo them.
    """
    try:
        if conf.history_days == 0:
            return
        for alias, group in _by_database(entries).items():
            if store is not None and store.alias == alias:
                _write_outside_transaction(group, store)
            else:
                _insert(group, alias)
    except Exception as error:
        _lost(error)


def _by_database(entries: Iterable[ConnectionEvent]) -> dict[str, list[ConnectionEvent]]:
    groups: dict[str, list[ConnectionEvent]] = defaultdict(list)
    for entry in entries:
        groups[router.db_for_write(ConnectionEvent, instance=entry)].append(entry)
    return groups


def _write_outside_transaction(entries: list[ConnectionEvent], store: RowStore) -> None:
    def statement(alias: str) -> None:
        try:
            _insert(entries, alias)
        except OperationalError as error:
            if is_locked(error):
                raise  # the repetition after the transaction tries again
            _lost(error)
        except Exception as error:
            _lost(error)

    store.outside_transaction(statement, _lost)


def _insert(entries: list[ConnectionEvent], alias: str) -> None:
    with savepoint(alias):
        _insert_plainly(entries, alias)


def _insert_plainly(entries: list[ConnectionEvent], alias: str) -> None:
    if len(entries) == 1:
        insert(entries[0], alias)
    else:
        ConnectionEvent.objects.using(alias).bulk_create(entries, batch_size=BATCH)


def write_with(statements: Callable[[], bool], entries: list[ConnectionEvent], alias: str) -> bool:
    """Run ``statements``, and write entries if they return True, with one commit for both.

    If the entries cannot be written, the transaction is rolled back and the statements run again, without
    them. So they must be repeatable. Inside of the caller's transaction, entries are written by ``write``.
    """
    together = _can_share_commit(entries, alias)
    if together:
        try:
            with transaction.atomic(using=alias):
                done = statements()
                if done:
                    with _its_own_error():
                        _insert_plainly(entries, alias)
            return done
        except _NotWritten as error:
            _lost(error)
    done = statements()
    if done and not together:
        write(entries)
    return done


def _can_share_commit(entries: list[ConnectionEvent], alias: str) -> bool:
    """Return whether entries belong into this database, and no transaction of the caller is open there."""
    try:
        is_kept = conf.history_days != 0
    except ImproperlyConfigured:  # ``write`` logs it
        return False
    databases = {router.db_for_write(ConnectionEvent, instance=entry) for entry in entries}
    return is_kept and databases == {alias} and commits_by_itself(connections[alias])


class _NotWritten(Exception):
    """The history could not be written. What was written with it is rolled back."""


@contextmanager
def _its_own_error() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _NotWritten from error


def _lost(error: Exception) -> None:
    logger.error("the history could not be written", exc_info=error, extra={"action": "history_failed"})
