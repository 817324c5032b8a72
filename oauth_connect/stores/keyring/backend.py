"""Selects the keyring of this machine, refuses unsafe ones, and translates its failures."""

from __future__ import annotations

import importlib
import importlib.util
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from oauth_connect.errors import KeyringUnavailable
from oauth_connect.tracebacks import without_locals

# The extra "keyring".
library: Any = importlib.import_module("keyring") if importlib.util.find_spec("keyring") else None

T = TypeVar("T")

USERNAME = "oauth_connect"
PART_LENGTH = 1200  # characters: Windows stores 2,560 bytes, as UTF-16
CHAINER = "keyring.backends.chainer.ChainerBackend"
# Back ends that store nothing, or store it where everyone who can read the file finds it.
REFUSED = {
    "keyring.backends.fail.Keyring": "this machine has no keyring",
    "keyring.backends.null.Keyring": "the keyring stores nothing (null)",
    "keyrings.alt.file.PlaintextKeyring": "the keyring is a file in plain text",
}
GUIDANCE = (
    "Use the keyring of a desktop session (macOS, Windows, GNOME, KDE), or run a Secret Service such as "
    "gnome-keyring. `keyring diagnose` shows the keyrings found. Tokens are never stored in a file instead."
)
LOCKED = {"KeyringLocked", "LockedException", "InitError"}
UNLOCK = "Unlock the keyring (sign in to the desktop, or start its service) and try again."


class Backend(Protocol):
    """The methods required of a back end of the package ``keyring``."""

    def get_password(self, service: str, username: str) -> str | None: ...

    def set_password(self, service: str, username: str, password: str) -> None: ...

    def delete_password(self, service: str, username: str) -> None: ...


@without_locals
def usable_backend() -> Backend:
    """Return the keyring to use. Raises KeyringUnavailable, whose message says what to do."""
    if library is None:
        raise KeyringUnavailable(
            'The package keyring is not installed: pip install "django-oauth-connect[keyring]".'
        )
    default: Any = _call(library.get_keyring)
    first = ""
    for backend in _members(default):
        reason = problem(backend)
        if not reason:
            usable: Backend = backend
            return usable
        first = first or reason
    raise KeyringUnavailable(f"No usable keyring: {first or 'this machine has no keyring'}. {GUIDANCE}")


def problem(backend: object) -> str:
    """Return why a back end is refused, or an empty string."""
    for known in type(backend).__mro__:
        if reason := REFUSED.get(f"{known.__module__}.{known.__qualname__}"):
            return reason
        if "plaintext" in known.__name__.lower():
            return "the keyring stores secrets in plain text"
    # A back end may wrap another, for instance to split long values.
    inner = getattr(backend, "_keyring", None)
    return problem(inner) if hasattr(inner, "get_password") else ""


def _members(backend: Any) -> Iterator[Any]:
    """Yield the back ends of a chain, the preferred one first. The chain itself may write to any of them."""
    if any(f"{known.__module__}.{known.__qualname__}" == CHAINER for known in type(backend).__mro__):
        yield from _call(lambda: list(backend.backends))
    else:
        yield backend


class Keyring:
    """The keyring's entries, by name. A value may have ``PART_LENGTH`` characters.

    Every method may raise KeyringUnavailable. Each entry is its own service. If a service has several user
    names, some back ends move its existing entry before they write.
    """

    def __init__(self, backend: Backend | None = None) -> None:
        self._backend = backend or usable_backend()

    def get(self, name: str) -> str | None:
        return _call(lambda: self._backend.get_password(name, USERNAME))

    def put(self, name: str, value: str) -> None:
        _call(lambda: self._backend.set_password(name, USERNAME, value))

    def delete(self, name: str) -> None:
        """Delete an entry if it exists."""
        if self.get(name) is not None:
            _call(lambda: self._backend.delete_password(name, USERNAME))

    def check_writable(self, name: str) -> None:
        """Raise KeyringUnavailable unless a part of full length can be stored and read back."""
        value = secrets.token_hex(PART_LENGTH // 2)
        self.put(name, value)
        stored = self.get(name)
        self.delete(name)
        if stored != value:
            raise KeyringUnavailable(f"The keyring did not store a test value. {GUIDANCE}")


def _call(operation: Callable[[], T]) -> T:
    try:
        return operation()
    except Exception as error:  # each back end raises its own errors; their messages may contain the value
        failure = _failure(type(error))
    raise failure


def _failure(kind: type[Exception]) -> KeyringUnavailable:
    names = {known.__name__ for known in kind.__mro__}
    if names & LOCKED:
        return KeyringUnavailable(f"The keyring is locked, or it is not set up yet. {UNLOCK}")
    if "NoKeyringError" in names:
        return KeyringUnavailable(f"This machine has no keyring. {GUIDANCE}")
    return KeyringUnavailable(f"The keyring failed ({kind.__name__}). {UNLOCK}")
