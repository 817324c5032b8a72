from __future__ import annotations

from pathlib import Path

from tests.public_api import surface

KEPT = Path(__file__).with_name("public_api.txt")


def test_the_public_api_changes_only_on_purpose():
    """On purpose: ``python -m tests.public_api > tests/public_api.txt``, and a line in CHANGELOG.md."""
    assert list(surface()) == KEPT.read_text().splitlines()
