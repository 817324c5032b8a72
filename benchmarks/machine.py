"""What the figures were measured on: no name, no path."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

PACKAGES = ("Django", "requests", "urllib3", "cryptography", "psycopg", "PyMySQL")


def described() -> dict[str, Any]:
    return {
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: version(name) for name in PACKAGES},
        "load_at_start": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
