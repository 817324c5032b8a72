"""Keyrings for tests: in a file that processes share, with a small limit, and one that can be cut off."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError, PasswordSetError

FILE = "OAUTH_CONNECT_TEST_KEYRING"
DIES_AT = "OAUTH_CONNECT_TEST_KEYRING_DIES_AT"
LIMIT = 2560  # bytes as UTF-16, as on Windows


class SmallKeyring(KeyringBackend):
    """Entries in a file of its own; each write is one ``os.replace``.

    It refuses what is longer than Windows keeps. Before the write whose number ``DIES_AT`` names, counted
    from 1 in each process, the process is killed.
    """

    priority = 0.0  # type: ignore[assignment]  # never found, only named

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = path
        self.writes = 0

    @property
    def path(self) -> Path:
        return Path(self._path or os.environ[FILE])

    @property
    def entries(self) -> dict[str, str]:
        return json.loads(self.path.read_text("utf-8")) if self.path.exists() else {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get(f"{username}@{service}")

    def set_password(self, service: str, username: str, password: str) -> None:
        if len(password.encode("utf-16-le")) > LIMIT:
            raise PasswordSetError("too long")
        self._write({**self.entries, f"{username}@{service}": password})

    def delete_password(self, service: str, username: str) -> None:
        entries = self.entries
        if entries.pop(f"{username}@{service}", None) is None:
            raise PasswordDeleteError("not there")
        self._write(entries)

    def _write(self, entries: dict[str, str]) -> None:
        self.writes += 1
        if self.writes == int(os.environ.get(DIES_AT, "0")):
            os.kill(os.getpid(), signal.SIGKILL)
        aside = self.path.with_suffix(f".{os.getpid()}")
        aside.write_text(json.dumps(entries), "utf-8")
        os.replace(aside, self.path)


class DeletingKeyring(SmallKeyring):
    """One that deletes an entry before it writes it anew, as that of macOS does."""

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.get_password(service, username) is not None:
            self.delete_password(service, username)
        super().set_password(service, username, password)


class LockedKeyring(KeyringBackend):
    """One that nobody has unlocked."""

    priority = 0.0  # type: ignore[assignment]  # never found, only named

    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked("refused to unlock: canary")

    def set_password(self, service: str, username: str, password: str) -> None:
        raise KeyringLocked(password)

    def delete_password(self, service: str, username: str) -> None:
        raise KeyringLocked("refused to unlock: canary")


class ForgetfulKeyring(SmallKeyring):
    """One that says yes and keeps nothing."""

    def _write(self, entries: dict[str, str]) -> None:
        return
