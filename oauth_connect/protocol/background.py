"""Blocking work for async callers: a few threads for all of them, and one call for many who want the same.

Two hundred tasks at one expiry are one call in one thread; the others wait in the event loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

T = TypeVar("T")

THREADS = 8
# Of which calls for one provider take so many: one that hangs leaves room for the others.
MAX_PER_PROVIDER = 6


class _Under:
    """What is under way in one event loop."""

    def __init__(self) -> None:
        self.calls: dict[Hashable, asyncio.Task[Any]] = {}
        self.rooms: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()

    def room(self, name: Hashable) -> asyncio.Semaphore:
        room = self.rooms.get(name)
        if room is None:
            room = self.rooms[name] = asyncio.Semaphore(MAX_PER_PROVIDER)
        return room

    def forget(self, key: Hashable, call: asyncio.Task[Any]) -> None:
        if self.calls.get(key) is call:
            del self.calls[key]


class Background:
    """At most ``THREADS`` threads a process, however many event loops; renewed in a forked child."""

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    async def once(self, key: Hashable, call: Callable[[], T], *, provider: Hashable = "") -> T:
        """Return what a blocking call returns; who comes with its key while it runs, shares the result.

        A caller that is cancelled stops waiting and nothing else: a refresh that has begun ends with the
        token saved. Needs asyncio.
        """
        loop = asyncio.get_running_loop()
        under = self._of(loop)
        task: asyncio.Task[T] | None = under.calls.get(key)
        if task is None or task.done():
            task = loop.create_task(self._call(under.room(provider), call))
            under.calls[key] = task
            task.add_done_callback(lambda done: under.forget(key, done))
        return await asyncio.shield(task)

    async def _call(self, room: asyncio.Semaphore, call: Callable[[], T]) -> T:
        context = contextvars.copy_context()
        async with room:
            return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, call)

    def _of(self, loop: asyncio.AbstractEventLoop) -> _Under:
        with self._guard:
            under = self._loops.get(loop)
            if under is None:
                under = self._loops[loop] = _Under()
            return under

    def _renew(self) -> None:
        self._guard = threading.Lock()
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Under] = WeakKeyDictionary()
        # Makes its threads when there is work; the interpreter waits for them at its end.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="oauth_connect-async")


background = Background()
