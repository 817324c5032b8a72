from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.rotating import RotatingServer


@pytest.fixture
def rotating() -> Iterator[RotatingServer]:
    server = RotatingServer()
    yield server
    server.stop()
