"""Lets one thread of a process refresh a token. The others wait, and do not query the database."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Hashable
from typing import Any
from weakref import WeakValueDictionary


class Flight:
    """A lock and the result of its last holder, for the threads that waited meanwhile."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._result: tuple[float, Any] | None = None

    def publish(self, result: Any) -> None:
        """Store the holder's result. Call it only while the lock is held."""
        self._result = (time.monotonic(), result)

    def result_since(self, moment: float) -> Any:
        """Return the result published after a moment of the monotonic clock, or None."""
        return self._result[1] if self._result is not None and self._result[0] > moment else None


class SingleFlight:
    """Holds one Flight for each key, while a thread uses it. A forked child begins without any."""

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def of(self, key: Hashable) -> Flight:
        with self._guard:
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = Flight()
            return flight

    def _renew(self) -> None:
        self._guard = threading.Lock()
        self._flights: WeakValueDictionary[Hashable, Flight] = WeakValueDictionary()


single_flight = SingleFlight()
