"""Does a run need more memory where more is due? A process for each number of rows, nothing else in it."""

from __future__ import annotations

from typing import Any

from benchmarks import bulk
from benchmarks.authority import Authority


def measure(authority: Authority, *, count: int, many: int, workers: int | None, **_: Any) -> Any:
    """Return the peak of a run with `count` rows due and of one with `many`; answers come at once."""
    found = []
    for due in (count, many):
        run = bulk.command(authority, due, 0, workers=workers, watched=False)
        found.append({"due": due, **run})
    return found
