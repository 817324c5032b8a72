"""Waits until another thread or process has done something, also on a busy machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import pytest

T = TypeVar("T")

TIMEOUT = 60.0  # seconds for what takes one or two; only a failing test waits so long
POLL_INTERVAL = 0.02  # seconds


def eventually(
    condition: Callable[[], T], what: str | Callable[[], str], *, interval: float = POLL_INTERVAL
) -> T:
    """Wait until the condition returns a true value, and return that value.

    ``what`` describes it in the error, as text or as a function that returns the text. ``interval``: seconds
    between two calls.
    """
    give_up = time.monotonic() + TIMEOUT
    while not (found := condition()):
        _fail_after(give_up, what)
        time.sleep(interval)
    return found


def _fail_after(give_up: float, what: str | Callable[[], str]) -> None:
    if time.monotonic() > give_up:
        raise AssertionError(f"not within {TIMEOUT:.0f} s: {what if isinstance(what, str) else what()}")


class Tally:
    """Counts events, and wakes the threads that wait for a number of them."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.count = 0
        self._changed = threading.Condition()

    def add(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            came = self._changed.wait_for(lambda: self.count >= count, TIMEOUT)
            assert came, f"not within {TIMEOUT:.0f} s: {count} times {self.what}, only {self.count}"


def tally_of(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Tally:
    """Count the calls of a function of ``owner``. A call counts when it has returned."""
    tally, function = Tally(name), getattr(owner, name)

    def counted(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        finally:
            tally.add()

    monkeypatch.setattr(owner, name, counted)
    return tally
