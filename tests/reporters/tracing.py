"""Sets a trace function for a block, in this thread and in those that start meanwhile."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def traced(function: Any) -> Iterator[None]:
    before = sys.gettrace()
    threading.settrace(function)
    sys.settrace(function)
    try:
        yield
    finally:
        sys.settrace(before)
        threading.settrace(before)  # type: ignore[arg-type]
