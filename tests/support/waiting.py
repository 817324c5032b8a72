"""Waiting for what another thread or process does: until it has happened, however busy the machine is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import pytest

T = TypeVar("T")

PATIENCE = 60.0  # seconds for what takes one or two; only a test that fails waits so long
LOOK = 0.02  # seconds between two looks at something that cannot wake us


def eventually(condition: Callable[[], T], what: str | Callable[[], str], *, look: float = LOOK) -> T:
    """Wait until the condition returns something true, and return that.

    ``what`` says what was waited for, or is called to say it once it has not come. ``look``: seconds
    between two looks.
    """
    give_up = time.monotonic() + PATIENCE
    while not (found := condition()):
        _fail_after(give_up, what)
        time.sleep(look)
    return found


def _fail_after(give_up: float, what: str | Callable[[], str]) -> None:
    if time.monotonic() > give_up:
        raise AssertionError(f"not within {PATIENCE:.0f} s: {what if isinstance(what, str) else what()}")


class Tally:
    """Counts what happens, and wakes those who wait for a number of it."""

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
            came = self._changed.wait_for(lambda: self.count >= count, PATIENCE)
            assert came, f"not within {PATIENCE:.0f} s: {count} times {self.what}, only {self.count}"


def tally_of(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Tally:
    """Count the calls of a function of somebody's, each once it has come back."""
    tally, function = Tally(name), getattr(owner, name)

    def counted(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        finally:
            tally.add()

    monkeypatch.setattr(owner, name, counted)
    return tally
