"""What was ever sealed opens for ever, under the key and for the place it was sealed for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from oauth_connect import crypto
from oauth_connect.errors import KeyUnavailable
from tests.releases import FILES, load
from tests.test_crypto import NEW

GOLDEN = [
    pytest.param(frozen["key"], entry, id=f"{frozen['version']}-{number}")
    for frozen in map(load, FILES)
    for number, entry in enumerate(frozen["sealed"])
]


@pytest.mark.parametrize(("key", "entry"), GOLDEN)
def test_a_golden_ciphertext_opens(key: str, entry: dict[str, Any], configure: Callable[..., None]) -> None:
    configure(KEYS=[key])
    assert crypto.unseal(entry["sealed"], tuple(entry["binding"])) == entry["value"]
    configure(KEYS=[NEW, key])
    assert crypto.unseal(entry["sealed"], tuple(entry["binding"])) == entry["value"]


@pytest.mark.compliance("D44")
@pytest.mark.parametrize(("key", "entry"), GOLDEN)
def test_it_opens_nowhere_else(key: str, entry: dict[str, Any], configure: Callable[..., None]) -> None:
    configure(KEYS=[key])
    with pytest.raises(KeyUnavailable, match="copied"):
        crypto.unseal(entry["sealed"], (*entry["binding"][:-1], "another"))


def test_there_is_one_of_each_kind() -> None:
    places = {entry["binding"][0] for frozen in map(load, FILES) for entry in frozen["sealed"]}
    assert {"oauth_connect.connection", "oauth_connect.pendingrevocation", "session"} <= places
