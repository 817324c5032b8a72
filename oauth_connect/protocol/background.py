"""Blocking work for async callers: one small thread pool, and one shared call for equal requests.

If 200 tasks need the same expired token, one thread refreshes it. The tasks wait in the event loop.
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
# If one provider hangs, its calls block only this many threads. Other providers use the rest.
MAX_PER_PROVIDER = 6


class _LoopState:
    """The calls in flight and the semaphores of one event loop."""

    def __init__(self) -> None:
        self.calls: dict[Hashable, asyncio.Task[Any]] = {}
        self.semaphores: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()

    def semaphore(self, provider: Hashable) -> asyncio.Semaphore:
        semaphore = self.semaphores.get(provider)
        if semaphore is None:
            semaphore = self.semaphores[provider] = asyncio.Semaphore(MAX_PER_PROVIDER)
        return semaphore

    def forget(self, key: Hashable, call: asyncio.Task[Any]) -> None:
        if self.calls.get(key) is call:
            del self.calls[key]


class Background:
    """Runs blocking calls in at most ``THREADS`` threads per process, for all event loops.

    A forked child starts with a new pool.
    """

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    async def once(self, key: Hashable, call: Callable[[], T], *, provider: Hashable = "") -> T:
        """Return the result of a blocking call. Callers with the same key share a call in flight.

        Cancelling a caller does not cancel the call. A refresh in flight still saves its token. Needs
        asyncio.
        """
        loop = asyncio.get_running_loop()
        state = self._state_of(loop)
        task: asyncio.Task[T] | None = state.calls.get(key)
        if task is None or task.done():
            task = loop.create_task(self._call(state.semaphore(provider), call))
            state.calls[key] = task
            task.add_done_callback(lambda done: state.forget(key, done))
        return await asyncio.shield(task)

    async def _call(self, semaphore: asyncio.Semaphore, call: Callable[[], T]) -> T:
        context = contextvars.copy_context()
        async with semaphore:
            return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, call)

    def _state_of(self, loop: asyncio.AbstractEventLoop) -> _LoopState:
        with self._lock:
            state = self._loops.get(loop)
            if state is None:
                state = self._loops[loop] = _LoopState()
            return state

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopState] = WeakKeyDictionary()
        # The pool starts threads on demand. The interpreter waits for them at exit.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="oauth_connect-async")


background = Background()
