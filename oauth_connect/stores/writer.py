"""Runs the writes of many workers in one thread, on one database connection. Commits waiting saves together.

So a hundred workers do not need a hundred database connections. A token is in the database a few milliseconds
after its response.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, TypeVar

from django.db import Error, OperationalError, connections
from django.db.models import Model

from oauth_connect.stores.batch import Save, Saves
from oauth_connect.stores.connection_state import State, carried
from oauth_connect.stores.lock_timeouts import is_locked

T = TypeVar("T")
logger = logging.getLogger("oauth_connect.stores")
COMMIT_BATCH = 50
# Called in the writer's thread with the result or the error. It must be fast and must not raise.
Callback = Callable[[Any, BaseException | None], None]


@dataclass(frozen=True, slots=True)
class _Job:
    """A job for the writer's connection: a statement, or a save that may be combined with others."""

    task: Callable[[], Any] | Save
    callback: Callback


class Writer:
    """Runs statements one after another, and saves together. A context manager: leaving it ends the thread.

    No error ends the thread, because many workers wait for it. ``state``: of the caller's database
    connection; the writer's connection gets it.
    """

    def __init__(self, model: type[Model], alias: str, state: State) -> None:
        self.model = model
        self.alias = alias
        self.state = state
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._held_back: list[_Job | None] = []
        self._thread = threading.Thread(target=self._work, name="oauth_connect-writer")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._jobs.put(None)
        self._thread.join()

    def run(self, statement: Callable[[], T]) -> T:
        """Run a statement on the writer's connection. Return its result, or raise its error."""
        done: Future[T] = Future()

        def callback(result: Any, error: BaseException | None) -> None:
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)

        self._jobs.put(_Job(statement, callback))
        return done.result()

    def save_soon(self, save: Save, callback: Callback) -> None:
        """Save a token without waiting for it.

        ``callback`` gets whether the row still had the version that was read, or it gets the error.
        """
        self._jobs.put(_Job(save, callback))

    def _work(self) -> None:
        with carried(self.alias, self.state):
            try:
                while jobs := self._next():
                    self._run(jobs)
            finally:
                connections[self.alias].close()

    def _next(self) -> list[_Job]:
        """Return one statement, or all saves that are waiting. Return an empty list at the end."""
        first = self._held_back.pop() if self._held_back else self._jobs.get()
        if first is None:
            return []
        jobs = [first]
        while isinstance(first.task, Save) and len(jobs) < COMMIT_BATCH and not self._jobs.empty():
            job = self._jobs.get()
            if job is None or not isinstance(job.task, Save):
                self._held_back.append(job)
                break
            jobs.append(job)
        return jobs

    def _run(self, jobs: Sequence[_Job]) -> None:
        saves = [job.task for job in jobs if isinstance(job.task, Save)]
        if len(saves) > 1 and self._save_all(saves):
            for job in jobs:
                self._report(job, True)
            return
        for job in jobs:
            self._run_one(job)

    def _save_all(self, saves: Sequence[Save]) -> bool:
        """Save all tokens in one transaction. False: none was saved, because at least one could not be."""
        try:
            return self._saves.run(saves)
        except Exception as error:
            self._reset_connection(error)
            return False

    def _run_one(self, job: _Job) -> None:
        task = job.task
        try:
            result = self._saves.run([task]) if isinstance(task, Save) else task()
        except BaseException as error:
            self._reset_connection(error)
            self._report(job, None, error)
        else:
            self._report(job, result)

    def _report(self, job: _Job, result: Any, error: BaseException | None = None) -> None:
        try:
            job.callback(result, error)
        except Exception:
            logger.exception("a result could not be reported", extra={"action": "refresh_crashed"})

    def _reset_connection(self, error: BaseException) -> None:
        """Close the connection after a database error, even if it works: its host may be read-only now."""
        locked = isinstance(error, OperationalError) and is_locked(error)
        if isinstance(error, Error) and not locked:
            with suppress(Exception):
                connections[self.alias].close()

    @cached_property
    def _saves(self) -> Saves:
        return Saves(self.model, self.alias)
