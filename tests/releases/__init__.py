"""What each release left in the databases of its users: its rows, and what it sealed. Opened for ever.

A file here is written once, by ``python -m tests.releases``, and never changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
FILES = sorted(FOLDER.glob("*.json"))


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found
