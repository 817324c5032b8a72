from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from oauth_connect.models import Connection
from tests.faults.processes import Start, Worker
from tests.management.conftest import command  # noqa: F401  (a fixture)
from tests.support.follow_ups import wait_for_follow_ups


@pytest.fixture
def start(transactional_db: None) -> Iterator[Start]:
    """Start worker processes; whatever a failed test leaves running is killed before its database goes."""
    workers: list[Worker] = []

    def begin(*used: Connection, **orders: Any) -> Worker:
        workers.append(Worker(*used, **orders))
        return workers[-1]

    yield begin
    for worker in workers:
        if worker.process.returncode is None:
            worker.kill()


@pytest.fixture(autouse=True)
def no_follow_up_left_running(db: None) -> Iterator[None]:
    yield
    wait_for_follow_ups()
