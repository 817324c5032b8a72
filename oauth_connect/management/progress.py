"""A progress bar on a terminal, where tqdm is installed; nothing elsewhere."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# The extra "cli"; lines do as well.
tqdm = importlib.import_module("tqdm") if importlib.util.find_spec("tqdm") else None


@contextmanager
def progress(unit: str, total: Callable[[], int], *, quiet: bool) -> Iterator[Callable[..., object]]:
    """Yield what moves the bar on, by one or by the number it is given. ``total`` is asked where it shows."""
    if tqdm is None or quiet or not sys.stderr.isatty():
        yield lambda number=1: None
        return
    with tqdm.tqdm(total=total(), unit=f" {unit}", leave=False, file=sys.stderr) as bar:
        yield bar.update
