"""Processes of one user wait for one another here, for as long as it takes to read and write a keyring."""

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

PATIENCE = 30.0  # seconds; a keyring may have to ask its user for a password


@contextmanager
def exclusively(name: str) -> Iterator[None]:
    """Hold an entry's lock, which the system frees when its process ends. Raises KeyringUnavailable."""
    if filelock is None or platformdirs is None:
        raise KeyringUnavailable(
            'The extra "keyring" is not installed: pip install "django-oauth-connect[keyring]".'
        )
    file = _folder() / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock"
    lock = filelock.FileLock(file, timeout=PATIENCE, mode=0o600)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise KeyringUnavailable(
            f"Another process has held the keyring's lock for {PATIENCE:.0f} seconds. Is it waiting for a "
            "password to unlock the keyring?"
        ) from None
    except OSError as error:
        raise _unlockable(file, error) from None
    try:
        yield
    finally:
        lock.release()


def _folder() -> Path:
    """Return the user's own folder for locks, made where it is missing. Nothing else is ever in it."""
    folder: Path = platformdirs.user_state_path("oauth_connect", appauthor=False)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name == "posix":
            _make_private(folder)
    except KeyringUnavailable:  # an OSError too, as all that surfaces in a call is
        raise
    except OSError as error:
        raise _unlockable(folder, error) from None
    return folder


def _make_private(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise KeyringUnavailable(f"{folder} is not a folder of this user; move it away.")
    if found.st_mode & 0o077:
        folder.chmod(0o700)


def _unlockable(path: Path, error: OSError) -> KeyringUnavailable:
    return KeyringUnavailable(
        f"The lock {path} cannot be used ({error.strerror or type(error).__name__}); "
        "make its folder writable."
    )
