"""Limits how long a statement waits for a lock that another transaction holds.

By default PostgreSQL waits for ever, and MariaDB for fifty seconds. There are two ways:

- a single statement outside of any transaction: ``LockWait`` and ``lock_wait``. The limit is part of the
  statement, so it costs no statement of its own and stays in no session that a pooling proxy may reuse.
- a transaction: ``bounded_transaction``.

SQLite waits for its ``timeout`` option, whatever the statement says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

from django.core.exceptions import FullResultSet
from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, Func

T = TypeVar("T")
MAX_TRIES = 10
# PostgreSQL's codes, then MariaDB's. Locked: the lock is not available, or the statement was cancelled, too.
DEADLOCK_CODES: set[str | int] = {"40P01", 1213}
LOCKED_CODES: set[str | int] = {"55P03", "57014", 1205, *DEADLOCK_CODES}
SERIALIZATION_FAILURE = "40001"
VERBS = ("SELECT ", "INSERT ", "UPDATE ", "DELETE ")


class LockWait(Func):
    """A condition that always holds. On PostgreSQL it limits, in seconds, how long its UPDATE waits.

    PostgreSQL evaluates conditions before it locks the row, so the limit is set by then. The setting is
    local: it ends with the statement. Inside a transaction it would stay, so there it is left out.
    """

    output_field = BooleanField()
    template = "set_config('lock_timeout', '%(milliseconds)s', true) IS NOT NULL"

    def __init__(self, seconds: float) -> None:
        super().__init__(milliseconds=str(int(seconds * 1000)))

    def as_sql(self, *args: Any, **context: Any) -> Any:
        raise FullResultSet

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        if not commits_by_itself(connection):
            raise FullResultSet
        return super().as_sql(compiler, connection, **context)


def lock_wait(alias: str, seconds: float) -> AbstractContextManager[None]:
    """Limit how long each UPDATE in this block waits on MariaDB, which has a clause for it."""
    connection = connections[alias]
    if not (connection.vendor == "mysql" and commits_by_itself(connection) and is_mariadb(connection)):
        return nullcontext()
    return _with_clause(connection, seconds, ("UPDATE ",))


@contextmanager
def bounded_transaction(alias: str, seconds: float) -> Iterator[None]:
    """Begin a transaction or a savepoint whose statements wait at most ``seconds`` for a lock."""
    connection = connections[alias]
    with transaction.atomic(using=alias):
        if connection.vendor == "mysql" and is_mariadb(connection):
            with _with_clause(connection, seconds):
                yield
            return
        _set_lock_timeout(connection, seconds)
        yield


def _set_lock_timeout(connection: BaseDatabaseWrapper, seconds: float) -> None:
    milliseconds = int(seconds * 1000)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            # Local (true): behind a pooling proxy another client gets this session next.
            cursor.execute(
                f"SELECT set_config('lock_timeout', '{milliseconds}', true), "
                f"set_config('statement_timeout', '{2 * milliseconds}', true)"
            )
    elif connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {max(1, int(seconds))}")


@contextmanager
def _with_clause(
    connection: BaseDatabaseWrapper, seconds: float, verbs: tuple[str, ...] = VERBS
) -> Iterator[None]:
    """Put MariaDB's clause before each statement that locks. Nothing stays set in the session."""
    clause = f"SET STATEMENT innodb_lock_wait_timeout={max(1, int(seconds))} FOR "

    def bounded(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        return execute(clause + sql if sql.startswith(verbs) else sql, *rest)

    with connection.execute_wrapper(bounded):
        yield


def retried(alias: str, statements: Callable[[], T], *, only_deadlocks: bool = False) -> T:
    """Run a transaction, and run it again when it is the victim of a deadlock, at most ten times.

    ``only_deadlocks``: do not repeat it when it has waited too long for a lock, because a person waits for
    it. Inside the caller's transaction it runs once, because the deadlock has ended that transaction.
    """
    may_succeed = is_deadlock if only_deadlocks else is_locked
    for _ in range(MAX_TRIES - 1):
        try:
            return statements()
        except OperationalError as error:
            if not (commits_by_itself(connections[alias]) and may_succeed(error)):
                raise
    return statements()


def inserted(alias: str, statement: Callable[[], T]) -> T:
    """Run an INSERT of a row with a unique key. It may break no transaction of the caller.

    MariaDB may end one of two parallel inserts of the same key, if a row of this key was deleted or rolled
    back shortly before. The insert runs again then. Raises IntegrityError.
    """

    def insert() -> T:
        with savepoint(alias):
            return statement()

    return retried(alias, insert, only_deadlocks=True)


def locking(alias: str) -> AbstractContextManager[Any]:
    """Return a transaction for a read that locks rows; nothing on SQLite, which has no such read.

    On SQLite, a transaction that began with a read may be unable to write later.
    """
    lockable = connections[alias].features.has_select_for_update
    return transaction.atomic(using=alias) if lockable else nullcontext()


def savepoint(alias: str) -> AbstractContextManager[Any]:
    """Return a savepoint for one statement whose error must not break the caller's transaction.

    Outside of a transaction it is nothing: there the statement commits by itself.
    """
    return nullcontext() if commits_by_itself(connections[alias]) else transaction.atomic(using=alias)


def commits_by_itself(connection: BaseDatabaseWrapper) -> bool:
    """Return whether each statement is its own transaction. Opens no connection."""
    if connection.in_atomic_block:
        return False
    connected = connection.connection is not None
    return bool(connection.autocommit if connected else connection.settings_dict["AUTOCOMMIT"])


def is_mariadb(connection: Any) -> bool:
    return bool(connection.mysql_is_mariadb)


def is_conflict(error: OperationalError) -> bool:
    """Return whether a statement failed because another transaction's write came first.

    PostgreSQL refuses the later of two writes under a strict isolation level (40001). Reading the row again
    shows the earlier one.
    """
    return _sqlstate(error) == SERIALIZATION_FAILURE


def is_locked(error: Exception) -> bool:
    """Return whether a statement failed because another transaction holds the row, or SQLite's one lock."""
    return _has_code(error, LOCKED_CODES) or "database is locked" in str(error)


def is_deadlock(error: Exception) -> bool:
    """Return whether the database ended a transaction because it and another one waited for each other.

    The locks are free by then, so the transaction may run again immediately.
    """
    return _has_code(error, DEADLOCK_CODES)


def _has_code(error: Exception, codes: set[str | int]) -> bool:
    number = error.args[0] if error.args else None
    return _sqlstate(error) in codes or number in codes


def is_missing_table(error: Exception) -> bool:
    """Return whether a statement failed because its table does not exist, or is in another schema."""
    number = error.args[0] if error.args else None
    return _sqlstate(error) == "42P01" or number == 1146 or "no such table" in str(error)


def _sqlstate(error: Exception) -> str | None:
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
