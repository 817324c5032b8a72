"""What ``oauth_doctor`` finds, one line each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of output. ``hint`` says what to do. A finding with the level "ok" has no hint."""

    subject: str
    level: Level
    message: str = ""
    hint: str = ""

    def __str__(self) -> str:
        if self.level == "ok":
            return f"{self.subject}: OK{f' ({self.message})' if self.message else ''}"
        return f"{self.subject}: {self.level.upper()}: {self.message} {self.hint}".rstrip()
