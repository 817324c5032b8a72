"""Tables in Markdown, and the figures in their cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

Runs = Sequence[dict[str, Any]]


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterable[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"


def middle(runs: Runs, key: str) -> float:
    return median(run[key] for run in runs)


def ratios(runs: Runs, base: Runs, key: str = "took") -> list[float]:
    """Return the ratio of each two runs of one round."""
    return [one[key] / other[key] for one, other in zip(runs, base, strict=True)]


def ratio(runs: Runs, base: Runs, key: str = "took") -> float:
    return median(ratios(runs, base, key))
