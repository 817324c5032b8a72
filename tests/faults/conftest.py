from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.processes import Start, Worker
from tests.management.conftest import command  # noqa: F401  (a fixture)
from tests.support.follow_ups import wait_for_follow_ups
from tests.support.processes import starting


@pytest.fixture
def start(transactional_db: None) -> Iterator[Start]:
    """Start worker processes."""
    with starting(Worker) as begin:
        yield begin


@pytest.fixture(autouse=True)
def no_follow_up_left_running(db: None) -> Iterator[None]:
    yield
    wait_for_follow_ups()
