"""Runs blocking work on a connection in a thread, once for all tasks that want the same of its row.

Two hundred tasks that each loaded the row make one refresh, in one thread. The thread uses a database
connection of its own and gives it back. Under synchronous code (``async_to_sync``, a ``TestCase``) the
caller's thread does the work, because its transaction is open there.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar, cast

from asgiref.sync import AsyncToSync, sync_to_async
from django.db import DatabaseError, ProgrammingError, close_old_connections, router
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import translation

from oauth_connect.engine.store import REVOKED
from oauth_connect.errors import ReauthorizationRequired
from oauth_connect.models.row import ConnectionRow, R, rows_of
from oauth_connect.protocol.background import background
from oauth_connect.stores.columns import COLUMNS, OPENED
from oauth_connect.stores.connection_state import State, aread_state, carried, hidden, in_callers_thread
from oauth_connect.tracebacks import copy_of

T = TypeVar("T")
COPIED = (*COLUMNS, "variables")


async def in_thread(connection: R, key: Hashable, work: Callable[[R], T]) -> T:
    """Run ``work``, which blocks, and return its result. The instance gets the new state of its row.

    Tasks that pass the same ``key`` for a row while it runs share one run. It runs on a copy, because a task
    that was cancelled may go on using its instance. Raises ConnectionHidden if only the caller's database
    connection shows the row.
    """
    if _has_synchronous_caller():
        return await sync_to_async(work)(connection)
    alias = router.db_for_write(type(connection), instance=connection)
    state = await aread_state(alias)
    whose = connection.__dict__.get("owner")  # not shared with an instance from before a move_to()
    whole_key = (type(connection), connection._state.db, connection.pk, whose, key, state)
    run = partial(_run, connection, work, alias, state, _RequestState.of_caller())
    outcome = await background.once(whole_key, run, provider=connection.provider)
    outcome.copy_state_to(connection)
    if outcome.found_no_row and await in_callers_thread(alias, partial(_exists, connection, alias)):
        raise hidden() from outcome.error
    if outcome.error is not None:
        raise _error_for(connection, outcome.error)
    return cast("T", outcome.result)


@dataclass(frozen=True, slots=True)
class _Outcome(Generic[T]):
    """The result of the work, and the copy of the instance that it ran on."""

    row: ConnectionRow
    result: T | None = None
    error: Exception | None = None
    found_no_row: bool = False

    def copy_state_to(self, connection: ConnectionRow) -> None:
        """Copy the row's state to another instance, unless that one has a newer version."""
        if connection.__dict__.get("version", 0) > self.row.version:
            return
        state = self.row.__dict__
        connection.__dict__.update({name: state[name] for name in (*COPIED, OPENED) if name in state})


@dataclass(frozen=True, slots=True)
class _RequestState:
    """What URLs depend on, of the request that starts the work. Receivers of signals may build some.

    New releases of asgiref do not carry it over to the thread.
    """

    script_prefix: str
    urlconf: Any
    language: str | None

    @classmethod
    def of_caller(cls) -> _RequestState:
        return cls(get_script_prefix(), get_urlconf(), translation.get_language())

    def activate(self) -> None:
        """Apply it to the rest of the thread's context, which ends with the work."""
        set_script_prefix(self.script_prefix)
        set_urlconf(self.urlconf)
        if self.language is None:
            translation.deactivate_all()
        else:
            translation.activate(self.language)


def _error_for(connection: ConnectionRow, error: Exception) -> Exception:
    """Return a copy of the shared error for one awaiting caller.

    Its ``connect_url`` has the script prefix, language and URLconf of this caller's request.
    """
    copied = copy_of(error)
    if isinstance(copied, ReauthorizationRequired):
        row: Any = connection  # of the model, which stands above this module
        copied.connection, copied.connect_url = row, connection.connect_url
    return copied


def _run(
    connection: R, work: Callable[[R], T], alias: str, state: State, request: _RequestState
) -> _Outcome[T]:
    row = copy.copy(connection)
    request.activate()
    with carried(alias, state), _returned_connections():
        try:
            return _Outcome(row, work(row))
        except Exception as error:
            return _Outcome(row, error=error, found_no_row=_found_no_row(error, row, alias))


def _found_no_row(error: Exception, row: ConnectionRow, alias: str) -> bool:
    """Return whether the work failed because this thread's database connection does not show the row."""
    is_gone = isinstance(error, ReauthorizationRequired) and error.reason == "disconnected"
    if not (is_gone or isinstance(error, ProgrammingError)):
        return False
    try:
        return not _exists(row, alias)
    except DatabaseError:
        return False  # unknown: the error itself says more


def _exists(connection: ConnectionRow, alias: str) -> bool:
    """Return whether this thread's database connection shows the row, unless it is disconnected."""
    rows = rows_of(type(connection), alias).exclude(status=REVOKED)
    try:
        return rows.filter(pk=connection.id).exists()
    except ProgrammingError:  # no such table in its schema, or no right to read it
        return False


@contextmanager
def _returned_connections() -> Iterator[None]:
    """Use the thread's database connections as a request does: close old ones before and after."""
    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()


def _has_synchronous_caller() -> bool:
    """Return whether a thread waits under this event loop; its transaction may be open."""
    loop = asyncio.get_running_loop()
    return bool(getattr(AsyncToSync.executors, "current", None)) or loop in AsyncToSync.loop_thread_executors
