from __future__ import annotations

import pytest

from tests.servers.rotating import RotatingServer


@pytest.fixture
def rotating(rotating_process: RotatingServer) -> RotatingServer:
    """The strict provider, which these tests put into settings of their own."""
    rotating_process.reset()
    return rotating_process
