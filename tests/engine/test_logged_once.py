"""What was logged before is remembered: once for each key, by one of several threads, and within bounds."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from oauth_connect.engine import logged_once


@pytest.fixture(autouse=True)
def nothing_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logged_once, "_logged", {})


def test_each_key_is_new_once() -> None:
    keys = ["a", "b", "a", ("a", 1), ("a", 1)]
    assert [logged_once.is_first(key) for key in keys] == [True, True, False, True, False]


def test_of_several_threads_one_is_the_first() -> None:
    ready = threading.Barrier(8)

    def ask(_: int) -> bool:
        ready.wait()
        return logged_once.is_first("key")

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 1


def test_the_memory_is_bounded() -> None:
    for number in range(3 * logged_once.MAX_REMEMBERED):
        assert logged_once.is_first(number)
    assert len(logged_once._logged) <= logged_once.MAX_REMEMBERED + 1
