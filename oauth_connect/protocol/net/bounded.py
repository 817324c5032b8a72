"""A cache with a maximum size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

V = TypeVar("V")


class Bounded(OrderedDict[Any, V]):
    """A thread-safe cache of the values used last. A removed value is not closed: it may be in use."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._lock = threading.Lock()

    def get_or_make(self, key: Any, make: Callable[[], V]) -> V:
        with self._lock:
            if key not in self:
                self[key] = make()
                if len(self) > self._size:
                    self.popitem(last=False)
            self.move_to_end(key)
            return self[key]
