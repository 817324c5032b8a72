"""A key ring in a file, one key per line, newest first.

The file is read at each access, so a change needs no restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload


class KeyFile(Sequence[str]):
    def __init__(self, path: str) -> None:
        self._path = Path(path)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self._keys()[index]

    def __len__(self) -> int:
        return len(self._keys())

    def __repr__(self) -> str:
        return f"KeyFile({str(self._path)!r})"

    def _keys(self) -> list[str]:
        return self._path.read_text(encoding="utf-8").split()
