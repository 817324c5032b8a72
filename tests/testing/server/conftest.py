from __future__ import annotations

import pytest

from oauth_connect.testing.server import FakeServer
from tests.testing.oauth_client import Client, client_of


@pytest.fixture
def client(fake: FakeServer) -> Client:
    """A client of the fake provider, in place of Django's."""
    return client_of(fake)
