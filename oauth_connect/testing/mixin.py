"""Fake providers for ``unittest`` and Django's test cases."""

from __future__ import annotations

from typing import Unpack
from unittest import TestCase

from oauth_connect.testing.fake import FakeProvider, Options


class FakeProviderMixin(TestCase):
    """Adds ``self.fake("github")`` to a test case. The fake provider is closed after the test.

    For all tests of a class: ``cls.enterClassContext(FakeProvider("github"))`` in ``setUpClass``.
    """

    def fake(self, name: str, **options: Unpack[Options]) -> FakeProvider:
        """Open a fake provider until the test ends. ``options``: those of ``FakeProvider``."""
        return self.enterContext(FakeProvider(name, **options))
