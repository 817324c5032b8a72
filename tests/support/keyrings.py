"""Keyrings for tests: one in a file that processes share, with a size limit, and some that fail."""

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
    """Stores entries in a file of its own. Each write is one ``os.replace``.

    Refuses an entry that is longer than Windows allows. ``DIES_AT`` is the number of a write, counted from 1
    in each process. The process is killed before that write.
    """

    priority = 0.0  # type: ignore[assignment]  # used by name only, never found automatically

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
        temporary = self.path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(entries), "utf-8")
        os.replace(temporary, self.path)


class DeletingKeyring(SmallKeyring):
    """Deletes an entry before it writes it again, as the keyring of macOS does."""

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.get_password(service, username) is not None:
            self.delete_password(service, username)
        super().set_password(service, username, password)


class LockedKeyring(KeyringBackend):
    """A locked keyring."""

    priority = 0.0  # type: ignore[assignment]  # used by name only, never found automatically

    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked("refused to unlock: canary")

    def set_password(self, service: str, username: str, password: str) -> None:
        raise KeyringLocked(password)

    def delete_password(self, service: str, username: str) -> None:
        raise KeyringLocked("refused to unlock: canary")


class ForgetfulKeyring(SmallKeyring):
    """Reports success and stores nothing."""

    def _write(self, entries: dict[str, str]) -> None:
        return
