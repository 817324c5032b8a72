from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import AsyncClient, Client

from oauth_connect.testing.server import FakeServer


@pytest.fixture
def no_settings(settings: Any) -> None:
    """A site that has set nothing up: no key, no BASE_URL, no provider."""
    settings.OAUTH_CONNECT = {}


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def client(user: Any) -> Client:
    """Django's test client, with the user logged in."""
    found = Client()
    found.force_login(user)
    return found


@pytest.fixture
def async_client(user: Any) -> AsyncClient:
    found = AsyncClient()
    found.force_login(user)
    return found
