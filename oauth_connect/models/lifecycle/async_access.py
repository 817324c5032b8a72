"""Runs blocking work on a connection in a thread, once for all tasks that want the same of its row.

Two hundred tasks that each loaded the row make one refresh, in one thread. The thread uses a database
connection of its own and gives it back. Under synchronous code (``async_to_sync``, a ``TestCase``) the
caller's thread does the work, because its transaction is open there.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar, cast

from asgiref.sync import AsyncToSync, sync_to_async
from django.db import close_old_connections

from oauth_connect.models.row import ConnectionRow, R
from oauth_connect.protocol.background import background
from oauth_connect.stores.columns import COLUMNS
from oauth_connect.tracebacks import copy_of

T = TypeVar("T")
COPIED = (*COLUMNS, "variables")


async def in_thread(connection: R, key: Hashable, work: Callable[[R], T]) -> T:
    """Run ``work``, which blocks, and return its result. The instance gets the new state of its row.

    Tasks that pass the same ``key`` for a row while it runs share one run. It runs on a copy, because a task
    that was cancelled may go on using its instance.
    """
    if _has_synchronous_caller():
        return await sync_to_async(work)(connection)
    whole_key = (type(connection), connection._state.db, connection.pk, key)
    run = partial(_run, connection, work)
    outcome = await background.once(whole_key, run, provider=connection.provider)
    outcome.copy_state_to(connection)
    if outcome.error is not None:
        raise copy_of(outcome.error)
    return cast("T", outcome.result)


@dataclass(frozen=True, slots=True)
class _Outcome(Generic[T]):
    """The result of the work, and the copy of the instance that it ran on."""

    row: ConnectionRow
    result: T | None = None
    error: Exception | None = None

    def copy_state_to(self, connection: ConnectionRow) -> None:
        """Copy the row's state to another instance, unless that one has a newer version."""
        if connection.__dict__.get("version", 0) > self.row.version:
            return
        state = self.row.__dict__
        connection.__dict__.update({name: state[name] for name in (*COPIED, "_opened") if name in state})


def _run(connection: R, work: Callable[[R], T]) -> _Outcome[T]:
    row = copy.copy(connection)
    try:
        return _Outcome(row, _returning_connections(partial(work, row)))
    except Exception as error:
        return _Outcome(row, error=error)


def _returning_connections(work: Callable[[], T]) -> T:
    """Use the thread's database connections as a request does: close old ones before and after."""
    close_old_connections()
    try:
        return work()
    finally:
        close_old_connections()


def _has_synchronous_caller() -> bool:
    """Return whether a thread waits under this event loop; its transaction may be open."""
    loop = asyncio.get_running_loop()
    return bool(getattr(AsyncToSync.executors, "current", None)) or loop in AsyncToSync.loop_thread_executors
