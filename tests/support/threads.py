"""Threads in which tests work while something else happens. Each has database connections of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connections


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Let a thread work. It has ended when the block has, and its error is raised then."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if failures:
        raise failures[0]


def in_another_thread(work: Callable[[], object]) -> None:
    """Work in another thread, and wait for its end. Raises its error."""
    with meanwhile(work):
        pass
