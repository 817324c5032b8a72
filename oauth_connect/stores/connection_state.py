"""Carries state of the caller's database connection to the connections that this package opens.

A site may set a schema, a role or a variable of row-level security on the connection of a request. Another
connection, which lacks this state, sees other rows or none. ``CONNECTION_STATE`` reads it and writes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections

from oauth_connect.conf import conf
from oauth_connect.errors import ConnectionHidden

T = TypeVar("T")
MARK = "_oauth_connect_state"  # of a connection that is this package's own


class StateNotWritten(OperationalError):
    """The site's function could not write the state of a new connection, which was closed."""


@dataclass(frozen=True, slots=True)
class State:
    """What ``read`` returned: a hashable value. None, and then it is false: there is nothing to carry.

    Two are equal if their values are. It is part of every key by which callers share a refresh, because two
    tenants may have a row of the same primary key.
    """

    value: Hashable = None
    write: Callable[[Any, Any], object] | None = field(default=None, compare=False, repr=False)

    def __bool__(self) -> bool:
        return self.value is not None


NOTHING = State()


def read_state(alias: str) -> State:
    """Return the state of this thread's connection. Without the setting, call nothing.

    In a thread of this package it is the state that was carried there. Raises ImproperlyConfigured if the
    value is not hashable, and any error of the site's function.
    """
    hooks = conf.connection_state
    return NOTHING if hooks is None else _read(connections[alias], *hooks)


async def aread_state(alias: str) -> State:
    """``read_state`` for async code. The site's function runs in the thread of Django's async queries."""
    if conf.connection_state is None:
        return NOTHING
    return await in_callers_thread(alias, partial(read_state, alias))


async def in_callers_thread(alias: str, call: Callable[[], T]) -> T:
    """Run a call on the database connection of an async caller, and return its result.

    That is the connection of Django's async queries. If it is not open, or there is none, and the result is
    false, it is the one that the thread of the event loop used before the loop began: a script loads a row,
    then calls ``asyncio.run``.
    """
    return await sync_to_async(_on_callers_connection)(alias, _connection_before_the_loop(alias), call)


def _on_callers_connection(alias: str, before_the_loop: Any, call: Callable[[], T]) -> T:
    mine = _existing(alias)
    is_open = mine is not None and mine.connection is not None
    if is_open or before_the_loop is None:
        return _as_it_was(alias, call, is_open=is_open)
    found = _as_it_was(alias, call, is_open=False) if mine is not None else None
    return found or _lent(alias, before_the_loop, call)


def _as_it_was(alias: str, call: Callable[[], T], *, is_open: bool) -> T:
    """Run a call on this thread's connection, and close it again if it was not open: a pool may be small."""
    try:
        return call()
    finally:
        if not is_open:
            connections[alias].close()


def _lent(alias: str, connection: Any, call: Callable[[], T]) -> T:
    """Run a call on a connection of the event loop's thread, which cannot use it while the loop runs."""
    usual = connections[alias]
    connection.inc_thread_sharing()
    connections[alias] = connection
    try:
        return call()
    finally:
        connections[alias] = usual
        connection.dec_thread_sharing()


def _connection_before_the_loop(alias: str) -> Any:
    """Return the open connection of this thread's synchronous code, or None.

    While an event loop runs, Django keeps other connections apart for async code. So there must be none.
    """
    loop = asyncio.get_running_loop()
    asyncio._set_running_loop(None)
    try:
        found = _existing(alias)
    finally:
        asyncio._set_running_loop(loop)
    return found if found is not None and found.connection is not None else None


def _existing(alias: str) -> Any:
    """Return this thread's connection, open or not; None if it has none yet."""
    existing = connections.all(initialized_only=True)
    return next((one for one in existing if one.alias == alias), None)


def _read(connection: Any, read: Callable[[Any], Any], write: Callable[[Any, Any], object]) -> State:
    carried: State | None = getattr(connection, MARK, None)
    if carried is not None:
        return carried
    state = State(read(connection), write)
    try:
        hash(state)
    except TypeError:
        raise ImproperlyConfigured(
            f'OAUTH_CONNECT["CONNECTION_STATE"]: read returned a {type(state.value).__name__}, which is not '
            "hashable. Return a string, a number or a tuple of them; None if there is nothing to carry."
        ) from None
    return state


def carry(connection: Any, state: State) -> None:
    """Mark a connection as this package's own, and write the state each time that it is opened."""
    setattr(connection, MARK, state)
    if state:
        # After the receivers of connection_created, which may set the connection up in their own way.
        connection.connect = partial(_connect, connection, type(connection).connect, state)


def _connect(connection: Any, connect: Callable[[Any], None], state: State) -> None:
    connect(connection)
    _write(connection, state)


@contextmanager
def carried(alias: str, state: State) -> Iterator[None]:
    """Use a copy of this thread's connection that has the state, outside of any pool; close it on leaving.

    For a thread of this package. With nothing to carry, the thread uses its ordinary connection.
    """
    if state.write is None:
        yield
        return
    usual: Any = connections[alias]
    used = _copy(usual) if state else usual
    carry(used, state)
    connections[alias] = used
    try:
        yield
    finally:
        connections[alias] = usual
        delattr(used, MARK)
        if used is not usual:
            used.close()


def _copy(usual: Any) -> Any:
    own = usual.copy()
    unpooled(own)
    # A site may set it to False. The first rollback would then undo the statements of ``write``.
    own.settings_dict["AUTOCOMMIT"] = True
    return own


def unpooled(connection: Any) -> None:
    """Take a copy of a connection out of its pool: its state must not reach the next user of the pool."""
    connection.settings_dict.setdefault("OPTIONS", {}).pop("pool", None)


def restore_state(alias: str, state: State) -> None:
    """Open the caller's connection and write the state to it, if this package has closed it.

    Call nothing if the connection is open, or if there is no state. Raises StateNotWritten.
    """
    connection: Any = connections[alias]
    if not state or connection.connection is not None:
        return
    connection.ensure_connection()
    if not hasattr(connection, MARK):
        _write(connection, state)


def _write(connection: Any, state: State) -> None:
    assert state.write is not None  # noqa: S101  (a value came from ``read``)
    try:
        state.write(connection, state.value)
    except BaseException as error:
        connection.close()  # never used without its state
        if not isinstance(error, Exception):
            raise
        raise StateNotWritten(
            f'OAUTH_CONNECT["CONNECTION_STATE"]: write failed ({type(error).__name__}). The connection was '
            "closed. Correct that function; nothing was done without the state."
        ) from error


def hidden() -> ConnectionHidden:
    """Return the error for a row that the caller's database connection shows, and another one does not."""
    return ConnectionHidden(
        "The caller's database connection shows this connection's row, and another one does not: its schema, "
        "role or row-level security differ. Nothing was sent. Set "
        'OAUTH_CONNECT["CONNECTION_STATE"] (docs/tenants.md).'
    )
