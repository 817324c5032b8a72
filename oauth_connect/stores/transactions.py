"""Decides on which database connection a statement runs, so that a rollback of the caller does not undo it.

Outside a transaction, the caller's connection commits each statement. Inside one, the statement runs on a
copy of that connection, outside of any pool, which is closed right after it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, TypeVar

from django.db import connections, transaction

from oauth_connect.errors import ConnectionLocked
from oauth_connect.stores.connection_state import State, carry, read_state, unpooled
from oauth_connect.stores.lock_timeouts import bounded_transaction

T = TypeVar("T")
MAX_CONNECTIONS = 4  # per process
SLOT_TIMEOUT = 30.0
OWN = ":oauth_connect"  # ends the alias of a copied connection


class Placement(Enum):
    """Where statements run.

    ``CALLER``: on the caller's connection. ``OWN_CONNECTION``: on a copy of it. ``CALLER_THEN_REPEAT``: on
    the caller's connection, and again after its transaction; for SQLite, which has a single writer.
    """

    CALLER = "caller"
    OWN_CONNECTION = "own_connection"
    CALLER_THEN_REPEAT = "caller_then_repeat"


def placement(alias: str) -> Placement:
    """Return where statements run, given the caller's transaction.

    SQLite in memory locks whole tables between connections. A second one would fail, and would make the
    caller's own statements fail. So there a rollback of the caller undoes a refresh.
    """
    connection: Any = connections[alias]
    if not connection.in_atomic_block and connection.get_autocommit():
        return Placement.CALLER
    if any(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks):
        return Placement.CALLER
    if connection.vendor != "sqlite":
        return Placement.OWN_CONNECTION
    return Placement.CALLER if connection.is_in_memory_db() else Placement.CALLER_THEN_REPEAT


class _Slots:
    """Limits the copies of connections in a process. A forked child starts with all slots free."""

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.free = threading.BoundedSemaphore(MAX_CONNECTIONS)


_slots = _Slots()


@contextmanager
def own_connection(alias: str, lock_timeout: float, state: State) -> Iterator[str]:
    """Yield the alias of a copied connection, for one short transaction that commits on leaving.

    ``lock_timeout``: seconds. ``state``: of the caller's connection; the copy gets it. Raises
    ConnectionLocked when no slot gets free.
    """
    slots = _slots.free
    if not slots.acquire(timeout=SLOT_TIMEOUT):
        raise ConnectionLocked(
            "No database connection became free for a refresh inside a transaction. Try again."
        )
    try:
        with own_transaction(alias, lock_timeout, state) as own:
            yield own
    finally:
        slots.release()


def outside_transaction(
    alias: str, lock_timeout: float, statement: Callable[[str], T], *, state: State | None = None
) -> T:
    """Run a statement so that it commits immediately where the database allows it; return its result.

    On SQLite and outside a transaction it runs on the caller's connection. ``state``: of that connection; by
    default it is read if needed.
    """
    if placement(alias) is Placement.OWN_CONNECTION:
        given = read_state(alias) if state is None else state
        with own_connection(alias, lock_timeout, given) as own:
            return statement(own)
    return statement(alias)


@contextmanager
def write_transaction(alias: str, table: str) -> Iterator[None]:
    """Begin a transaction, or a savepoint, for several writes that begin with a read.

    On SQLite a transaction that began with a read may be unable to write later. So it begins with a write to
    ``table`` that changes nothing.
    """
    begins = not connections[alias].in_atomic_block
    with transaction.atomic(using=alias):
        connection = connections[alias]
        if begins and connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)} WHERE 1 = 0")  # noqa: S608
        yield


def is_own(alias: str) -> bool:
    """Return whether an alias is that of a copied connection."""
    return alias.endswith(OWN)


@contextmanager
def own_transaction(alias: str, lock_timeout: float, state: State) -> Iterator[str]:
    """Open a copy of a connection under its own alias, with the state, for one transaction; then close it."""
    own = f"{alias}{OWN}"
    connection = connections[alias].copy(own)
    # A site may set it to False. atomic() would then leave the commit to the caller.
    connection.settings_dict["AUTOCOMMIT"] = True
    unpooled(connection)
    if connection.vendor == "sqlite":
        connection.settings_dict["OPTIONS"]["timeout"] = lock_timeout
    carry(connection, state)
    connections[own] = connection
    try:
        with bounded_transaction(own, lock_timeout):
            yield own
    finally:
        connection.close()
        del connections[own]
