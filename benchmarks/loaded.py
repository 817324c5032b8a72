"""The memory of many loaded rows: by how much a process grows that reads them into a list."""

from __future__ import annotations

import gc
from typing import Any

from django.db.models import QuerySet

from benchmarks import child, others, rows
from benchmarks.authority import Authority
from benchmarks.meter import resident
from benchmarks.others import installed


def measure(authority: Authority, *, loaded: int, **_: Any) -> Any:
    names = child.among_others(authority, fill, count=loaded)
    rows.connections(loaded)
    grown = {
        f"{name}{', each token opened' if opened else ''}": child.among_others(
            authority, by_loading, name=name, count=loaded, opened=opened
        )
        for name, opened in names
    }
    return {"count": loaded, "grown": grown, "absent": others.absent()}


# --- in a process of its own ----------------------------------------------------------------------


def fill(count: int) -> list[tuple[str, bool]]:
    """Store so many rows of each other package. Returns what can be loaded, and whether tokens are opened."""
    found = installed.prepared("loaded", count)
    return [(one.name, opened) for one in found for opened in ((False, True) if one.is_ours else (False,))]


def by_loading(name: str, count: int, opened: bool) -> float:
    """Return by how many MiB the process grows. `opened`: also decrypt the token of each row."""
    queryset = QuerySet(next(one for one in installed.recipes("loaded") if one.name == name).model)
    assert queryset.first() is not None
    gc.collect()
    before = resident()
    held = list(queryset[:count])
    if opened:
        assert all(row.token.access_token for row in held)
    gc.collect()
    grown = resident() - before
    assert len(held) == count, f"{name}: {len(held)} rows"
    return grown
