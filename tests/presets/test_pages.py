"""Each provider has a page, which says what its preset says."""

from __future__ import annotations

import pytest

from oauth_connect import presets
from oauth_connect.management.providers import summary as catalogue
from tests.presets import pages


@pytest.mark.once
def test_the_pages_of_the_providers_are_those_of_their_presets() -> None:
    written = pages.pages()
    differing = [
        str(path) for path, text in written.items() if not path.is_file() or path.read_text("utf-8") != text
    ]
    assert not differing, "run python -m tests.presets.pages"
    assert set(pages.FOLDER.glob("*.md")) == set(written) - {pages.MATRIX}


@pytest.mark.parametrize("name", presets.names())
def test_a_page_marks_what_is_not_verified(name: str) -> None:
    about, text = pages.facts(name), pages.page(name)
    assert ("Not verified" in text) is bool(about.doubts)
    assert about.scope_labels or "*not verified*" in text
    if not catalogue.example(name).hooks.register_client:
        assert about.console or "Where to click: not verified" in text
    assert all(source in text for source in about.sources)
    assert all(change.on in text for change in about.changes)


@pytest.mark.once
def test_a_page_asks_nobody_to_register_what_the_site_registers_itself() -> None:
    text = pages.page("mastodon")
    assert "registers its clients by itself" in text
    assert "Kind of client" not in text
