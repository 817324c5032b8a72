"""The scheduler gives each worker its next job. A started job has a worker until it is finished."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from oauth_connect.jobs.refresh.scheduler import Job, ProviderQueue, Scheduler
from tests.support.waiting import TIMEOUT, eventually


@pytest.fixture
def queue() -> ProviderQueue:
    return ProviderQueue("acme", limit=2)


@pytest.fixture
def scheduler(queue: ProviderQueue) -> Scheduler:
    return Scheduler([queue], capacity=8)


@pytest.fixture
def taken_by_another(scheduler: Scheduler) -> Iterator[Callable[[], list[Job | None]]]:
    """Let a worker take one job. The list is empty while the worker waits."""
    workers: list[threading.Thread] = []

    def waits() -> bool:
        with scheduler._lock:
            return scheduler._free_workers > 0

    def take() -> list[Job | None]:
        got: list[Job | None] = []
        workers.append(threading.Thread(target=lambda: got.append(scheduler.take())))
        workers[-1].start()
        eventually(lambda: got or waits(), "a worker that has a job, or waits for one")
        return got

    yield take
    for worker in workers:
        worker.join(TIMEOUT)
        assert not worker.is_alive()


def a_job(queue: ProviderQueue) -> Job:
    claimed: Any = None
    return Job(queue, claimed)


def test_workers_stay_until_every_job_is_finished(scheduler, queue, taken_by_another) -> None:
    job = a_job(queue)
    scheduler.add([job])
    assert scheduler.take() is job
    got = taken_by_another()
    scheduler.end()
    assert got == []
    assert scheduler.is_busy
    assert scheduler.finished()
    assert scheduler.take() is None


def test_a_job_requeued_after_the_end_is_still_run(scheduler, queue, taken_by_another) -> None:
    job = a_job(queue)
    scheduler.add([job])
    assert scheduler.take() is job
    scheduler.end()
    scheduler.requeue(job)
    assert scheduler.take() is job
    scheduler.finished()
    assert taken_by_another() == [None]


def test_at_the_end_no_worker_waits(scheduler) -> None:
    scheduler.end()
    assert scheduler.take() is None
