"""On which connection a statement runs, so that the caller's transaction does not decide.

Outside a transaction the caller's own connection commits at once. Inside one, a copy of it, outside
of any pool, does; it is closed before anything else happens.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from oauth_connect.errors import ConnectionLocked

AT_MOST = 4
SLOT_WAIT = 30.0
# Not to be had in time, cancelled, deadlock: PostgreSQL's, then MariaDB's.
LOCKED_CODES = {"55P03", "57014", "40P01", 1205, 1213}
SERIALIZATION_FAILURE = "40001"


class Placement(Enum):
    """``DIRECT``: on the caller's connection. ``ASIDE``: on one of its own. ``FOLLOWED``: on the
    caller's, and once more after its transaction, for a database with a single writer."""

    DIRECT = "direct"
    ASIDE = "aside"
    FOLLOWED = "followed"


def placement(alias: str) -> Placement:
    """Say where statements belong, by the transaction the caller is in."""
    connection = connections[alias]
    if not connection.in_atomic_block and connection.get_autocommit():
        return Placement.DIRECT
    if any(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks):
        return Placement.DIRECT
    return Placement.FOLLOWED if connection.vendor == "sqlite" else Placement.ASIDE


class _Slots:
    """A few connections a process at most; a forked child begins with all of them."""

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.free = threading.BoundedSemaphore(AT_MOST)


_slots = _Slots()


@contextmanager
def aside(alias: str, wait: float) -> Iterator[str]:
    """Yield an alias for one short transaction that commits by itself.

    ``wait``: seconds it may wait for a lock. Raises ConnectionLocked when no connection gets free.
    """
    slots = _slots.free
    if not slots.acquire(timeout=SLOT_WAIT):
        raise ConnectionLocked(
            "No database connection got free for refreshing inside a transaction; try again."
        )
    try:
        with own_transaction(alias, wait) as private:
            yield private
    finally:
        slots.release()


@contextmanager
def own_transaction(alias: str, wait: float) -> Iterator[str]:
    """Open a copy of a connection under an alias of its own, for one transaction, and close it."""
    private = f"{alias}:oauth_connect"
    connection = connections[alias].copy(private)
    # Without it, as a site may have it, atomic() would leave the commit to somebody else.
    connection.settings_dict["AUTOCOMMIT"] = True
    options = connection.settings_dict.setdefault("OPTIONS", {})
    options.pop("pool", None)
    if connection.vendor == "sqlite":
        options["timeout"] = wait
    connections[private] = connection
    try:
        with transaction.atomic(using=private):
            limit_waits(connection, wait)
            yield private
    finally:
        connection.close()
        del connections[private]


def limit_waits(connection: BaseDatabaseWrapper, wait: float) -> None:
    """Bound, in seconds, what statements of the transaction that has just begun wait for a lock."""
    milliseconds = int(wait * 1000)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            # LOCAL: behind a pooling proxy the session is not ours.
            cursor.execute(f"SET LOCAL lock_timeout = {milliseconds}")
            cursor.execute(f"SET LOCAL statement_timeout = {2 * milliseconds}")
    elif connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {max(1, int(wait))}")


def is_conflict(error: OperationalError) -> bool:
    """Tell whether a statement failed because somebody else's came first, under a strict isolation level.

    PostgreSQL refuses the later of two writes there (40001); looked at again, the row shows the earlier.
    """
    return _sqlstate(error) == SERIALIZATION_FAILURE


def is_locked(error: Exception) -> bool:
    """Tell whether a statement failed because somebody else holds the row (or SQLite's one lock)."""
    number = error.args[0] if error.args else None
    return _sqlstate(error) in LOCKED_CODES or number in LOCKED_CODES or "database is locked" in str(error)


def _sqlstate(error: Exception) -> str | None:
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
