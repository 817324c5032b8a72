"""Writes the tables into a page, between two markers. So all of its figures are of one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

BEGIN = "<!-- figures: written by dev.py bench --write -->"
END = "<!-- end of the figures -->"


def write(path: Path, lines: Sequence[str]) -> None:
    """Replace what stands between the markers of a page. Raises ValueError unless each is there once."""
    page = path.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    if page.count(BEGIN) != 1 or END not in rest or page.count(END) != 1:
        raise ValueError(f"{path} has no {BEGIN!r} followed by {END!r}")
    path.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]), encoding="utf-8")
