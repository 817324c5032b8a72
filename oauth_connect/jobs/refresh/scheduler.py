"""Hands claimed rows to workers: one queue for each provider, served round robin within its limit."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from queue import SimpleQueue

from oauth_connect.engine.store import Event
from oauth_connect.protocol.provider import Provider
from oauth_connect.stores.batch import Claimed


@dataclass(slots=True, eq=False)
class ProviderQueue:
    """The jobs of one provider. ``limit``: how many of its token requests may be in flight.

    ``has_one_client``: all its connections use one client at one server, so failures in a row are the
    provider's. ``alarm``: the code of its alarm, or empty. ``resolved``: the provider as settings and issuer
    describe it, where that is known and the same for all.
    """

    provider: str
    limit: int
    has_one_client: bool = True
    recovering: bool = False
    alarm: str = ""
    resolved: Provider | None = None
    exhausted: bool = False
    failures_in_a_row: int = 0
    waiting: deque[Job] = field(default_factory=deque)
    in_flight: int = 0

    @property
    def free_slots(self) -> int:
        """How many more leases may be claimed: at most two wait for each request in flight."""
        return 3 * self.limit - len(self.waiting) - self.in_flight

    @property
    def needs_refill(self) -> bool:
        return not self.exhausted and len(self.waiting) <= self.limit // 2


@dataclass(slots=True, eq=False)
class Job:
    """One claimed connection, and what its refresh has produced so far.

    ``save_alone``: saves a new token that could not be saved together with others.
    """

    queue: ProviderQueue
    claimed: Claimed
    events: list[Event] = field(default_factory=list)
    error: BaseException | None = None
    save_alone: Callable[[], object] | None = None


class Scheduler:
    """Hands jobs to workers, round robin over the queues, within each queue's limit. Thread-safe.

    ``capacity``: how many jobs may be started and not yet done. If responses arrive faster than the database
    saves them, workers wait. A job is handed out only to a worker that is free, because ``drop`` can take
    back only what no worker has. A started job may be requeued, so no worker ends before all have finished.
    """

    def __init__(self, queues: Iterable[ProviderQueue], capacity: int) -> None:
        self._queues: deque[ProviderQueue] = deque(queues)
        self._requeued: deque[Job] = deque()
        self._capacity = capacity
        self._free_workers = 0
        self._started = 0
        self._stopped = False
        self._ended = False
        self._lock = threading.Lock()
        # Much cheaper than a Condition, which makes a lock for each wait.
        self._handed_out: SimpleQueue[Job | None] = SimpleQueue()

    def add(self, jobs: Iterable[Job]) -> None:
        with self._lock:
            for job in jobs:
                job.queue.waiting.append(job)
            self._hand_out()

    def requeue(self, job: Job) -> None:
        """Give a started job to a worker again, before any other job and outside all limits."""
        with self._lock:
            self._requeued.append(job)
            self._hand_out()

    def take(self) -> Job | None:
        """Wait for a job and return it; None when no more will come."""
        with self._lock:
            self._free_workers += 1
            self._hand_out()
        return self._handed_out.get()

    def request_finished(self, job: Job) -> None:
        """Record that the job's request is over, so that its provider may get another one."""
        with self._lock:
            job.queue.in_flight -= 1
            self._hand_out()

    def finished(self) -> bool:
        """Record that a started job needs no worker any more. Return whether it was the last of the run."""
        with self._lock:
            self._started -= 1
            self._hand_out()
            return self._ended and not self._started

    @property
    def is_busy(self) -> bool:
        """Whether a started job has not finished yet."""
        return self._started > 0

    def done(self) -> None:
        """Record that the result of a started job has been reported."""
        with self._lock:
            self._capacity += 1
            self._hand_out()

    def stop(self) -> None:
        """Start no more jobs. Safe in a signal handler: takes no lock."""
        self._stopped = True

    def drop(self, queue: ProviderQueue | None = None) -> list[Job]:
        """Remove and return the jobs that no worker has started, of one queue or of all."""
        with self._lock:
            queues = [queue] if queue is not None else list(self._queues)
            dropped = [job for one in queues for job in one.waiting]
            for one in queues:
                one.waiting.clear()
                one.exhausted = True
            return dropped

    def end(self) -> None:
        """Let the workers end once all started jobs have finished."""
        with self._lock:
            self._ended = True
            self._hand_out()

    def _hand_out(self) -> None:
        while self._free_workers and (
            (job := self._next()) is not None or (self._ended and not self._started)
        ):
            self._free_workers -= 1
            self._handed_out.put(job)

    def _next(self) -> Job | None:
        if self._requeued:
            return self._requeued.popleft()
        for _ in range(len(self._queues) if self._capacity and not self._stopped else 0):
            queue = self._queues[0]
            self._queues.rotate(-1)
            if queue.waiting and queue.in_flight < queue.limit:
                queue.in_flight += 1
                self._capacity -= 1
                self._started += 1
                return queue.waiting.popleft()
        return None
