"""The output of commands: tables, counts of outcomes, and a progress bar on a terminal."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

# From the extra "cli". Without it there is no bar.
tqdm = importlib.import_module("tqdm") if importlib.util.find_spec("tqdm") else None


@contextmanager
def progress(unit: str, total: Callable[[], int], *, quiet: bool) -> Iterator[Callable[..., object]]:
    """Yield a function that advances a progress bar, by one or by its argument."""
    if tqdm is None or quiet or not sys.stderr.isatty():
        yield lambda number=1: None
        return
    with tqdm.tqdm(total=total(), unit=f" {unit}", leave=False, file=sys.stderr) as bar:
        yield bar.update


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a table, with numbers aligned to the right."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [bool(rows) and all(isinstance(row[index], int) for row in rows) for index in range(len(head))]
    for row in cells:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        yield "  ".join(padded).rstrip()


def humanize(name: str) -> str:
    """Return the name of an outcome or a table as words."""
    return name.replace("_", " ")


class Tally:
    """Counts the results of a command by one or more names (a provider, a table) and an outcome.

    ``outcomes`` lists all possible outcomes in their order. ``failed`` lists those that are failures.
    """

    def __init__(self, outcomes: Sequence[str], failed: Collection[str] = ()) -> None:
        self.outcomes = outcomes
        self._failed = failed
        self._counts: Counter[tuple[str, ...]] = Counter()

    def add(self, *names_and_outcome: str, number: int = 1) -> None:
        self._counts[names_and_outcome] += number

    def of(self, *names_and_outcome: str) -> int:
        return self._counts[names_and_outcome]

    @property
    def total(self) -> int:
        return self._counts.total()

    @property
    def failed(self) -> int:
        return sum(number for key, number in self._counts.items() if key[-1] in self._failed)

    def by_outcome(self) -> dict[str, int]:
        """Return the number of each outcome, also of those that did not occur."""
        counts: Counter[str] = Counter()
        for key, number in self._counts.items():
            counts[key[-1]] += number
        return {outcome: counts[outcome] for outcome in self.outcomes}

    def by_name(self) -> dict[str, dict[str, int]]:
        """Return for each first name the number of each outcome, also of those that did not occur."""
        names = sorted({key[0] for key, number in self._counts.items() if number})
        return {name: {outcome: self.of(name, outcome) for outcome in self.outcomes} for name in names}

    def items(self) -> Iterator[tuple[tuple[str, ...], int]]:
        """Yield each combination that occurred and its number, in the order of names and outcomes."""
        order = {outcome: index for index, outcome in enumerate(self.outcomes)}
        found = (item for item in self._counts.items() if item[1])
        yield from sorted(found, key=lambda item: (item[0][:-1], order[item[0][-1]]))

    def rows(self) -> list[tuple[object, ...]]:
        """Return the rows of a table: the names, the outcome as words, the number."""
        return [(*key[:-1], humanize(key[-1]), number) for key, number in self.items()]
