"""What the figures were measured on: no name, no path."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OTHERS = (
    "requests-oauthlib",
    "Authlib",
    "httpx",
    "requests_oauth2client",
    "django-allauth",
    "social-auth-app-django",
    "django-esi",
)
PACKAGES = ("Django", "requests", "urllib3", "cryptography", "psycopg", "PyMySQL")


def described() -> dict[str, Any]:
    return {
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: version(name) for name in PACKAGES},
        "free_threaded": not getattr(sys, "_is_gil_enabled", lambda: True)(),
        "commit": commit(),
        "others": {name: found for name in OTHERS if (found := installed(name))},
        "load_at_start": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def installed(name: str) -> str | None:
    """Return the version of a package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """Return the commit that is measured, with a plus if a tracked file differs. None: no repository."""
    try:
        found = git("rev-parse", "--short=12", "HEAD").strip()
        return f"{found}+" if git("status", "--porcelain", "--untracked-files=no").strip() else found
    except (OSError, subprocess.CalledProcessError):
        return None


def git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def apart_from(process_id: int) -> Iterator[None]:
    """Give another process the last core, and this one and its new children the first.

    Otherwise the scheduler sometimes places client and server on one core, and calls take longer.
    """
    if not hasattr(os, "sched_setaffinity") or cores() < 2:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(process_id, {max(before)})
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(process_id, before)
        os.sched_setaffinity(0, before)
