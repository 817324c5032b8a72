"""One thread, one database connection, the writes of many workers: what waits is committed together.

So a hundred workers need no hundred database connections, and a token is in the database a few
milliseconds after it has come.
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
from oauth_connect.stores.lock_timeouts import is_locked

T = TypeVar("T")
logger = logging.getLogger("oauth_connect.stores")
COMMIT_BATCH = 50
# Called in the writer's thread with the result, or with what was raised; must be quick and raise nothing.
Answer = Callable[[Any, BaseException | None], None]


@dataclass(frozen=True, slots=True)
class _Order:
    """Something to be done on the writer's connection: a statement, or a save that may go with others."""

    what: Callable[[], Any] | Save
    answer: Answer


class Writer:
    """Runs statements one after the other, saves together. A context manager: leaving it ends the thread.

    Nothing else does, whatever is raised: many wait for it.
    """

    def __init__(self, model: type[Model], alias: str) -> None:
        self.model = model
        self.alias = alias
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._held_back: list[_Order | None] = []
        self._thread = threading.Thread(target=self._work, name="oauth_connect-writer")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._orders.put(None)
        self._thread.join()

    def run(self, statement: Callable[[], T]) -> T:
        """Run a statement on the writer's connection; raises what it raises."""
        done: Future[T] = Future()

        def answer(result: Any, error: BaseException | None) -> None:
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)

        self._orders.put(_Order(statement, answer))
        return done.result()

    def save_soon(self, save: Save, answer: Answer) -> None:
        """Save a token without waiting for it.

        ``answer`` is told whether its row was found as it had been read, or gets what was raised.
        """
        self._orders.put(_Order(save, answer))

    def _work(self) -> None:
        try:
            while orders := self._next():
                self._run(orders)
        finally:
            connections[self.alias].close()

    def _next(self) -> list[_Order]:
        """Return a statement alone, or a save with the saves that have come since; nothing at the end."""
        first = self._held_back.pop() if self._held_back else self._orders.get()
        if first is None:
            return []
        orders = [first]
        while isinstance(first.what, Save) and len(orders) < COMMIT_BATCH and not self._orders.empty():
            order = self._orders.get()
            if order is None or not isinstance(order.what, Save):
                self._held_back.append(order)
                break
            orders.append(order)
        return orders

    def _run(self, orders: Sequence[_Order]) -> None:
        saves = [order.what for order in orders if isinstance(order.what, Save)]
        if len(saves) > 1 and self._all_saved(saves):
            for order in orders:
                self._answer(order, True)
            return
        for order in orders:
            self._run_one(order)

    def _all_saved(self, saves: Sequence[Save]) -> bool:
        """Save together. False: none was, one of them is in the way of the others."""
        try:
            return self._saves.run(saves)
        except Exception as error:
            self._reset_connection(error)
            return False

    def _run_one(self, order: _Order) -> None:
        what = order.what
        try:
            result = self._saves.run([what]) if isinstance(what, Save) else what()
        except BaseException as error:
            self._reset_connection(error)
            self._answer(order, None, error)
        else:
            self._answer(order, result)

    def _answer(self, order: _Order, result: Any, error: BaseException | None = None) -> None:
        try:
            order.answer(result, error)
        except Exception:
            logger.exception("an answer was lost", extra={"action": "refresh_crashed"})

    def _reset_connection(self, error: BaseException) -> None:
        """Go on with another connection; one that still answers may be to a host that is read-only by now."""
        locked = isinstance(error, OperationalError) and is_locked(error)
        if isinstance(error, Error) and not locked:
            with suppress(Exception):
                connections[self.alias].close()

    @cached_property
    def _saves(self) -> Saves:
        return Saves(self.model, self.alias)
