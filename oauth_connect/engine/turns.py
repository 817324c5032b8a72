"""Threads of one process wait for one another here, before they go to the database."""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable
from weakref import WeakValueDictionary


class Turns:
    """A lock for each key, kept only while somebody uses it, and renewed in a forked child."""

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def of(self, key: Hashable) -> threading.Lock:
        with self._guard:
            lock = self._locks.get(key)
            if lock is None:
                lock = self._locks[key] = threading.Lock()
            return lock

    def _renew(self) -> None:
        self._guard = threading.Lock()
        self._locks: WeakValueDictionary[Hashable, threading.Lock] = WeakValueDictionary()


turns = Turns()
