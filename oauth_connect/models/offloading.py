"""Connections in async code: what may block runs in a thread, once for all tasks that want the same of a row.

Two hundred tasks that each loaded the row are one refresh in one thread, on a database connection of that
thread's, given back after it. Beneath synchronous code (``async_to_sync``, a ``TestCase``) the caller's
own thread does it: there is the transaction that it belongs to.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from asgiref.sync import AsyncToSync, sync_to_async
from django.db import close_old_connections

from oauth_connect.protocol.background import background
from oauth_connect.stores.columns import COLUMNS

if TYPE_CHECKING:
    from oauth_connect.models.connection import Connection

T = TypeVar("T")
SHARED = (*COLUMNS, "variables")


async def away(connection: Connection, what: Hashable, work: Callable[[Connection], T]) -> T:
    """Return what ``work`` returns, which blocks, and let the instance have what became of its row.

    ``what``: tasks that name the same for a row while it runs, share the result. It runs on a copy: a task
    that was cancelled may go on using its instance.
    """
    if _has_synchronous_caller():
        return await sync_to_async(work)(connection)
    key = (type(connection), connection._state.db, connection.pk, what)
    run = partial(_run, connection, work)
    outcome = await background.once(key, run, provider=connection.provider)
    outcome.share(connection)
    if outcome.error is not None:
        raise outcome.error
    return cast("T", outcome.result)


@dataclass(frozen=True, slots=True)
class _Outcome(Generic[T]):
    """What became of a row, as a copy of an instance knows it."""

    twin: Connection
    result: T | None = None
    error: Exception | None = None

    def share(self, connection: Connection) -> None:
        """Let another instance of the row know as much, unless it knows more."""
        if connection.__dict__.get("version", 0) > self.twin.version:
            return
        known = self.twin.__dict__
        connection.__dict__.update({name: known[name] for name in (*SHARED, "_opened") if name in known})


def _run(connection: Connection, work: Callable[[Connection], T]) -> _Outcome[T]:
    twin = copy.copy(connection)
    try:
        return _Outcome(twin, _returning_connections(partial(work, twin)))
    except Exception as error:
        return _Outcome(twin, error=error)


def _returning_connections(work: Callable[[], T]) -> T:
    """Use the thread's database connections as a request does: none that is old, none kept too long."""
    close_old_connections()
    try:
        return work()
    finally:
        close_old_connections()


def _has_synchronous_caller() -> bool:
    """Tell whether a thread waits beneath this event loop, whose transaction may be open."""
    loop = asyncio.get_running_loop()
    return bool(getattr(AsyncToSync.executors, "current", None)) or loop in AsyncToSync.loop_thread_executors
