from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import keyring as library
import pytest

from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from tests.management.conftest import start  # noqa: F401  (a fixture)
from tests.support import keyrings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks in a folder of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], Any]]:
    """Make a back end the machine's keyring, here and in processes that are started."""
    before = library.get_keyring()

    def begin(backend: Any) -> Any:
        kind = type(backend)
        monkeypatch.setenv("PYTHON_KEYRING_BACKEND", f"{kind.__module__}.{kind.__qualname__}")
        library.set_keyring(backend)
        return backend

    yield begin
    library.set_keyring(before)


@pytest.fixture(params=["SmallKeyring", "DeletingKeyring"])
def keyring(
    request: pytest.FixtureRequest, use: Callable[[Any], Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> keyrings.SmallKeyring:
    """Two kinds of small keyrings."""
    monkeypatch.setenv(keyrings.FILE, str(home / "keyring.json"))
    found: keyrings.SmallKeyring = use(getattr(keyrings, request.param)())
    return found


@pytest.fixture
def small(use: Callable[[Any], Any], home: Path, monkeypatch: pytest.MonkeyPatch) -> keyrings.SmallKeyring:
    monkeypatch.setenv(keyrings.FILE, str(home / "keyring.json"))
    found: keyrings.SmallKeyring = use(keyrings.SmallKeyring())
    return found


@pytest.fixture
def entry(rotating: Any) -> dict[str, Any]:
    return {**rotating.entry(), "revocation_endpoint": f"{rotating.url}/revoke"}


@pytest.fixture
def provider(scripted_entry: dict[str, Any]) -> Provider:
    return Provider.from_mapping("scripted", scripted_entry)


@pytest.fixture
def token() -> Callable[..., Token]:
    """Make a token; ``age`` in seconds, of an hour's life."""

    def make(
        refresh_token: str = "row-0", *, age: float = 0, access_token: str = "access-0", **more: Any
    ) -> Token:
        obtained_at = datetime.now(UTC) - timedelta(seconds=age)
        expires_at = obtained_at + timedelta(seconds=3600)
        return Token(access_token, obtained_at, refresh_token, expires_at=expires_at, **more)

    return make
