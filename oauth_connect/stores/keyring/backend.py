"""Which keyring of this machine is used, which are refused, and what each of its failures means."""

from __future__ import annotations

import importlib
import importlib.util
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from oauth_connect.errors import KeyringUnavailable

# The extra "keyring".
library: Any = importlib.import_module("keyring") if importlib.util.find_spec("keyring") else None

T = TypeVar("T")

USERNAME = "oauth_connect"
PART = 1200  # characters: Windows keeps 2,560 bytes, as UTF-16
CHAINER = "keyring.backends.chainer.ChainerBackend"
# What keeps nothing, and what keeps it where anybody who reads the file (or the account) finds it.
REFUSED = {
    "keyring.backends.fail.Keyring": "there is no keyring here",
    "keyring.backends.null.Keyring": "it keeps nothing (null)",
    "keyrings.alt.file.PlaintextKeyring": "it is a file in plain text",
}
GUIDANCE = (
    "Use the keyring of a desktop session (macOS, Windows, GNOME, KDE), or run a Secret Service such as "
    "gnome-keyring; `keyring diagnose` shows what is found. Tokens are never put into a file instead."
)
LOCKED = {"KeyringLocked", "LockedException", "InitError"}
UNLOCK = "Unlock the keyring (sign in to the desktop, or start its service) and try again."


class Backend(Protocol):
    """What is asked of a back end of the package ``keyring``."""

    def get_password(self, service: str, username: str) -> str | None: ...

    def set_password(self, service: str, username: str, password: str) -> None: ...

    def delete_password(self, service: str, username: str) -> None: ...


def usable_backend() -> Backend:
    """Return the keyring that is to be used. Raises KeyringUnavailable with what to do about it."""
    if library is None:
        raise KeyringUnavailable(
            'The package keyring is not installed: pip install "django-oauth-connect[keyring]".'
        )
    found: Any = _asked(library.get_keyring)
    why = ""
    for backend in _members(found):
        reason = problem(backend)
        if not reason:
            usable: Backend = backend
            return usable
        why = why or reason
    raise KeyringUnavailable(f"No keyring to keep a token in: {why or 'there is none'}. {GUIDANCE}")


def problem(backend: object) -> str:
    """Say why a back end is refused; empty where it is not."""
    for known in type(backend).__mro__:
        if reason := REFUSED.get(f"{known.__module__}.{known.__qualname__}"):
            return reason
        if "plaintext" in known.__name__.lower():
            return "it keeps secrets in plain text"
    # One that wraps another, for instance to cut long values up.
    inner = getattr(backend, "_keyring", None)
    return problem(inner) if hasattr(inner, "get_password") else ""


def _members(backend: Any) -> Iterator[Any]:
    """The back ends of a chain, the preferred one first; a chain itself writes anywhere: it is not used."""
    if any(f"{known.__module__}.{known.__qualname__}" == CHAINER for known in type(backend).__mro__):
        yield from _asked(lambda: list(backend.backends))
    else:
        yield backend


class Keyring:
    """Entries of the keyring by their names; each value may be ``PART`` characters long.

    Every method may raise KeyringUnavailable. Each entry is a service of its own: with several user names
    of one service, some back ends move what is there before they write.
    """

    def __init__(self, backend: Backend | None = None) -> None:
        self._backend = backend or usable_backend()

    def get(self, name: str) -> str | None:
        return _asked(lambda: self._backend.get_password(name, USERNAME))

    def put(self, name: str, value: str) -> None:
        _asked(lambda: self._backend.set_password(name, USERNAME, value))

    def delete(self, name: str) -> None:
        """What is not there is deleted already."""
        if self.get(name) is not None:
            _asked(lambda: self._backend.delete_password(name, USERNAME))

    def check_writable(self, name: str) -> None:
        """Raise KeyringUnavailable unless a part of full length is kept, and found again."""
        value = secrets.token_hex(PART // 2)
        self.put(name, value)
        kept = self.get(name)
        self.delete(name)
        if kept != value:
            raise KeyringUnavailable(f"The keyring did not keep what was put into it. {GUIDANCE}")


def _asked(question: Callable[[], T]) -> T:
    try:
        return question()
    except Exception as error:  # each back end raises its own, and what they say may hold the value
        failure = _failure(type(error))
    raise failure


def _failure(kind: type[Exception]) -> KeyringUnavailable:
    names = {known.__name__ for known in kind.__mro__}
    if names & LOCKED:
        return KeyringUnavailable(f"The keyring is locked, or not set up yet. {UNLOCK}")
    if "NoKeyringError" in names:
        return KeyringUnavailable(f"There is no keyring here. {GUIDANCE}")
    return KeyringUnavailable(f"The keyring does not answer as it should ({kind.__name__}). {UNLOCK}")
