from __future__ import annotations

from pathlib import Path

from tests.project.public_api import surface

KEPT = Path(__file__).with_name("public_api.txt")


def test_the_public_api_changes_only_on_purpose():
    """To change it: ``python -m tests.project.public_api > tests/project/public_api.txt``; CHANGELOG."""
    assert list(surface()) == KEPT.read_text().splitlines()
