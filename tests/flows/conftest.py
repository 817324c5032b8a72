from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring as library
import pytest

from tests.support import keyrings


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A keyring of the test's own, with its locks."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv(keyrings.FILE, str(tmp_path / "keyring.json"))
    before = library.get_keyring()
    library.set_keyring(keyrings.SmallKeyring())
    yield library.get_keyring()
    library.set_keyring(before)
