"""Fixtures of pytest: ``pytest_plugins = ["oauth_connect.testing.fixtures"]`` in the conftest.py on top.

This module may be loaded before Django has its settings. So the fixture imports the fake provider.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol, Unpack

import pytest

from oauth_connect import testing

if TYPE_CHECKING:
    from oauth_connect.testing.fake import FakeProvider, Options


class OpenFakeProvider(Protocol):
    """Opens a fake provider until the test ends. ``options``: those of ``FakeProvider``."""

    def __call__(self, name: str, **options: Unpack[Options]) -> FakeProvider: ...


@pytest.fixture
def fake_provider() -> Iterator[OpenFakeProvider]:
    """Open fake providers: ``fake = fake_provider("github")``."""
    with ExitStack() as stack:

        def open_provider(name: str, **options: Unpack[Options]) -> FakeProvider:
            return stack.enter_context(testing.FakeProvider(name, **options))

        yield open_provider
