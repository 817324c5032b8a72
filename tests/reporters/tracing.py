"""Sets a trace function for a block."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def traced(function: Any) -> Iterator[None]:
    """Trace this thread and those that start meanwhile."""
    before = sys.gettrace()
    threading.settrace(function)
    sys.settrace(function)
    try:
        yield
    finally:
        sys.settrace(before)
        threading.settrace(before)  # type: ignore[arg-type]


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Do not trace this thread: what it does here is of no interest, and a trace takes as long again."""
    before = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(before)
