"""Plain words: some words that readers meet in no other docs are not used, but where a line is named here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BANNED = re.compile(
    r"\b(afresh|anew|at hand|at once|begun|beside|glance|ill|mend(s|ed|ing)?|somebody|to be had|told"
    r"|whoever)\b",
    re.IGNORECASE,
)
# The file, and a part of the line in which the word is right.
EXCEPTIONS: set[tuple[str, str]] = set()
FILES = sorted(
    path
    for folder, patterns in (("oauth_connect", ("*.py", "*.html", "*.toml", "*.json")), ("docs", ("*.md",)))
    for pattern in patterns
    for path in (ROOT / folder).rglob(pattern)
)


def found() -> list[tuple[str, str]]:
    return [
        (str(path.relative_to(ROOT)), line.strip())
        for path in FILES
        for line in path.read_text("utf-8").splitlines()
        if BANNED.search(line)
    ]


def is_excepted(file: str, line: str) -> bool:
    return any(name == file and part in line for name, part in EXCEPTIONS)


def test_no_banned_word_is_used() -> None:
    excepted = {
        (file, line) for file, line in found() for name, part in EXCEPTIONS if name == file and part in line
    }
    assert [f"{file}: {line}" for file, line in found() if (file, line) not in excepted] == []


def test_each_exception_is_still_needed() -> None:
    for name, part in EXCEPTIONS:
        assert any(name == file and part in line for file, line in found()), (name, part)


@pytest.mark.parametrize("line", ["It is told at once.", "Mended", "whoever asks"])
def test_a_banned_word_is_noticed(line: str) -> None:
    assert BANNED.search(line)


@pytest.mark.parametrize("line", ["refresh.at_once", "still", "commenders", "besides"])
def test_a_part_of_a_word_is_not(line: str) -> None:
    assert not BANNED.search(line)
