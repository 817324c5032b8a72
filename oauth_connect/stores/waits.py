"""How long a statement outside of any transaction waits for a row that somebody else's holds.

By default PostgreSQL waits for ever, and MariaDB fifty seconds. The bound goes along with the
statement itself: a refresh makes no statement more for it, and nothing is left set in a session that a
pooling proxy may hand to somebody else. SQLite waits for its ``timeout``, whatever the statement says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

from django.core.exceptions import FullResultSet
from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, Func

from oauth_connect.stores.placement import is_locked

T = TypeVar("T")
TRIES = 10


class LockWait(Func):
    """A condition that always holds; on PostgreSQL it bounds, in seconds, how long its UPDATE waits.

    Rows are judged before they are locked, so the bound is set by then. It is local: outside of a
    transaction it ends with the statement. Inside one it would stay, so there it is left out.
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


@contextmanager
def lock_wait(alias: str, seconds: float) -> Iterator[None]:
    """Bound how long each UPDATE in this block waits on MariaDB, which has a clause for it."""
    connection = connections[alias]
    if not (connection.vendor == "mysql" and commits_by_itself(connection) and is_mariadb(connection)):
        yield
        return
    clause = f"SET STATEMENT innodb_lock_wait_timeout={max(1, int(seconds))} FOR "

    def bounded(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        return execute(clause + sql if sql.startswith("UPDATE ") else sql, *rest)

    with connection.execute_wrapper(bounded):
        yield


def retried(alias: str, statements: Callable[[], T]) -> T:
    """Run a transaction of its own; again, within bounds, where it is the victim of a deadlock.

    Inside the caller's it is run once: the deadlock has ended that one.
    """
    for _ in range(TRIES - 1):
        try:
            return statements()
        except OperationalError as error:
            if connections[alias].in_atomic_block or not is_locked(error):
                raise
    return statements()


def locking(alias: str) -> AbstractContextManager[Any]:
    """Return a transaction for a read that locks; nothing on SQLite, which has no such read.

    A transaction that began by reading may not be able to write any more there.
    """
    lockable = connections[alias].features.has_select_for_update
    return transaction.atomic(using=alias) if lockable else nullcontext()


def commits_by_itself(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a statement is a transaction of its own; connects to nothing, which may be away."""
    if connection.in_atomic_block:
        return False
    connected = connection.connection is not None
    return bool(connection.autocommit if connected else connection.settings_dict["AUTOCOMMIT"])


def is_mariadb(connection: Any) -> bool:
    return bool(connection.mysql_is_mariadb)
