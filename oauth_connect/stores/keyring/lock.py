"""Locks a keyring entry against the user's other processes while one process reads or writes it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oauth_connect.errors import KeyringUnavailable

# The extra "keyring".
filelock: Any = importlib.import_module("filelock") if importlib.util.find_spec("filelock") else None
platformdirs: Any = (
    importlib.import_module("platformdirs") if importlib.util.find_spec("platformdirs") else None
)

LOCK_TIMEOUT = 30.0  # seconds; the keyring may prompt the user for a password


@contextmanager
def exclusively(name: str) -> Iterator[None]:
    """Hold an entry's lock. The system releases it when the process ends. Raises KeyringUnavailable."""
    if filelock is None or platformdirs is None:
        raise KeyringUnavailable(
            'The extra "keyring" is not installed: pip install "django-oauth-connect[keyring]".'
        )
    file = _folder() / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock"
    lock = filelock.FileLock(file, timeout=LOCK_TIMEOUT, mode=0o600)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise KeyringUnavailable(
            f"Another process has held the keyring's lock for {LOCK_TIMEOUT:.0f} seconds. It may be waiting "
            "for the keyring's password. Enter it there, and try again."
        ) from None
    except OSError as error:
        raise _unlockable(file, error) from None
    try:
        yield
    finally:
        lock.release()


def _folder() -> Path:
    """Return the user's folder for lock files. Create it if it is missing. It contains nothing else."""
    folder: Path = platformdirs.user_state_path("oauth_connect", appauthor=False)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name == "posix":
            _make_private(folder)
    except KeyringUnavailable:  # every CallError is also an OSError
        raise
    except OSError as error:
        raise _unlockable(folder, error) from None
    return folder


def _make_private(folder: Path) -> None:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise KeyringUnavailable(f"{folder} is not a folder of this user. Move it away.")
    if status.st_mode & 0o077:
        folder.chmod(0o700)


def _unlockable(path: Path, error: OSError) -> KeyringUnavailable:
    return KeyringUnavailable(
        f"The lock {path} cannot be used ({error.strerror or type(error).__name__}). "
        "Make its folder writable."
    )
