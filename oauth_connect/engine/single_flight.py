"""Threads of one process wait for one another here, before they go to the database."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Hashable
from typing import Any
from weakref import WeakValueDictionary


class Flight:
    """A lock, and what the one who held it last has found out, for those who have waited meanwhile."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._found: tuple[float, Any] | None = None

    def publish(self, found: Any) -> None:
        """Note what was found; only while the lock is held."""
        self._found = (time.monotonic(), found)

    def result_since(self, moment: float) -> Any:
        """Return what was found after a moment of the monotonic clock; None: nothing."""
        return self._found[1] if self._found is not None and self._found[0] > moment else None


class SingleFlight:
    """A turn for each key, kept only while somebody uses it, and renewed in a forked child."""

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
