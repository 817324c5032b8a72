from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.support.acme import ACME, KEY
from tests.support.our_checks import found


@pytest.fixture(autouse=True)
def good(db: None, configure: Callable[..., None]) -> None:
    """Settings of which nothing is reported. Some checks read rows."""
    configure(PROVIDERS={"acme": ACME})


@pytest.fixture
def reported(configure: Callable[..., None], settings: Any, in_production: None) -> Callable[..., None]:
    """Change settings, and expect one message, which says what to do."""
    settings.SECRET_KEY = KEY

    def expect(number: str, wrong: Mapping[str, Any], word: str) -> None:
        configure(**wrong)
        messages = found()
        assert set(messages) == {number}
        assert word in messages[number].msg
        assert messages[number].hint
        assert messages[number].is_serious() is number.startswith("E")

    return expect
