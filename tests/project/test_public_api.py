"""The public API and its record agree."""

from __future__ import annotations

from pathlib import Path

from tests.project.public_api import surface

RECORDED = Path(__file__).with_name("public_api.txt")


def test_the_public_api_changes_only_on_purpose():
    """To change it: ``python -m tests.project.public_api > tests/project/public_api.txt``. Edit CHANGELOG."""
    assert list(surface()) == RECORDED.read_text().splitlines()
