"""Who does what next: a job that has been begun has a worker until it is finished."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from oauth_connect.jobs.refresh.scheduler import Job, Lane, Schedule
from tests.waiting import PATIENCE, eventually


@pytest.fixture
def lane() -> Lane:
    return Lane("acme", limit=2)


@pytest.fixture
def schedule(lane: Lane) -> Schedule:
    return Schedule([lane], places=8)


@pytest.fixture
def taken_by_another(schedule: Schedule) -> Iterator[Callable[[], list[Job | None]]]:
    """Have a worker take one job; the list is empty while it waits for one."""
    workers: list[threading.Thread] = []

    def waits() -> bool:
        with schedule._lock:
            return schedule._free > 0

    def take() -> list[Job | None]:
        got: list[Job | None] = []
        workers.append(threading.Thread(target=lambda: got.append(schedule.take())))
        workers[-1].start()
        eventually(lambda: got or waits(), "a worker that has a job, or waits for one")
        return got

    yield take
    for worker in workers:
        worker.join(PATIENCE)
        assert not worker.is_alive()


def a_job(lane: Lane) -> Job:
    claimed: Any = None
    return Job(lane, claimed)


def test_workers_stay_until_what_was_begun_is_finished(schedule, lane, taken_by_another) -> None:
    job = a_job(lane)
    schedule.add([job])
    assert schedule.take() is job
    got = taken_by_another()
    schedule.end()
    assert got == []
    assert schedule.is_busy
    assert schedule.finished()
    assert schedule.take() is None


def test_what_comes_back_after_the_end_is_still_carried_out(schedule, lane, taken_by_another) -> None:
    job = a_job(lane)
    schedule.add([job])
    assert schedule.take() is job
    schedule.end()
    schedule.again(job)
    assert schedule.take() is job
    schedule.finished()
    assert taken_by_another() == [None]


def test_at_the_end_nobody_waits(schedule) -> None:
    schedule.end()
    assert schedule.take() is None
