"""A ring of keys in a file, a line each, newest first: read at each access, so a change needs no restart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload


class KeyFile(Sequence[str]):
    def __init__(self, path: str) -> None:
        self._path = Path(path)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        return self._keys()[place]

    def __len__(self) -> int:
        return len(self._keys())

    def __repr__(self) -> str:
        return f"KeyFile({str(self._path)!r})"

    def _keys(self) -> list[str]:
        return self._path.read_text(encoding="utf-8").split()
