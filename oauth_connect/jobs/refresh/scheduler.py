"""Who does what next: claimed rows wait in a lane for each provider, and workers take them in turn."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from oauth_connect.engine.store import Event
from oauth_connect.protocol.provider import Provider
from oauth_connect.stores.batch import Claimed


@dataclass(slots=True, eq=False)
class Lane:
    """One provider's share of a run. ``limit``: how many of its requests may be under way at once.

    ``alike``: what one of its connections meets, all would; so failures in a row speak for the provider.
    ``serving``: the provider as the settings and its issuer have it, where they are alike and it is known.
    """

    provider: str
    limit: int
    alike: bool = True
    recovering: bool = False
    alarmed: bool = False
    serving: Provider | None = None
    exhausted: bool = False
    failures_in_a_row: int = 0
    waiting: deque[Job] = field(default_factory=deque)
    under_way: int = 0

    @property
    def room(self) -> int:
        """How many more leases may be claimed: at most two wait for each request under way."""
        return 3 * self.limit - len(self.waiting) - self.under_way

    @property
    def runs_low(self) -> bool:
        return not self.exhausted and len(self.waiting) <= self.limit // 2


@dataclass(slots=True, eq=False)
class Job:
    """One connection to be refreshed under a lease, and what came of it.

    ``again``: its new token is here and still has to be saved, by itself.
    """

    lane: Lane
    claimed: Claimed
    heard: list[Event] = field(default_factory=list)
    error: BaseException | None = None
    again: Callable[[], object] | None = None


class Schedule:
    """Hands jobs to workers, a lane after the other, none above its limit. Safe for threads.

    ``places``: how many jobs may be begun and not yet settled; who is faster than the database waits.
    A job is given out only while a worker is free for it, so none waits where it cannot be dropped any more.
    Until one that was begun is finished it may come back, so until then no worker is let go.
    """

    def __init__(self, lanes: Iterable[Lane], places: int) -> None:
        self._turn: deque[Lane] = deque(lanes)
        self._urgent: deque[Job] = deque()
        self._places = places
        self._free = 0
        self._begun = 0
        self._stopped = False
        self._over = False
        self._lock = threading.Lock()
        # Cheaper by far than a Condition, of which each wait makes a lock.
        self._given: queue.SimpleQueue[Job | None] = queue.SimpleQueue()

    def add(self, jobs: Iterable[Job]) -> None:
        with self._lock:
            for job in jobs:
                job.lane.waiting.append(job)
            self._give()

    def again(self, job: Job) -> None:
        """Have a worker go on with a job that was begun: before any other, and whatever the limits."""
        with self._lock:
            self._urgent.append(job)
            self._give()

    def take(self) -> Job | None:
        """Wait for a job; None when there will be no more."""
        with self._lock:
            self._free += 1
            self._give()
        return self._given.get()

    def answered(self, job: Job) -> None:
        """Its provider may be asked for another."""
        with self._lock:
            job.lane.under_way -= 1
            self._give()

    def finished(self) -> bool:
        """A job that was begun needs no worker any more. True: it was the last, and the workers go."""
        with self._lock:
            self._begun -= 1
            self._give()
            return self._over and not self._begun

    @property
    def is_busy(self) -> bool:
        """Whether anything was begun and is not finished."""
        return self._begun > 0

    def settled(self) -> None:
        """A job that was begun has come to its end, and been told."""
        with self._lock:
            self._places += 1
            self._give()

    def stop(self) -> None:
        """Give out nothing any more that no worker has begun. Safe in a signal handler."""
        self._stopped = True

    def drop(self, lane: Lane | None = None) -> list[Job]:
        """Take back what no worker has begun, of one lane or of all."""
        with self._lock:
            lanes = [lane] if lane is not None else list(self._turn)
            dropped = [job for one in lanes for job in one.waiting]
            for one in lanes:
                one.waiting.clear()
                one.exhausted = True
            return dropped

    def end(self) -> None:
        """Let the workers go, when all that was begun is finished."""
        with self._lock:
            self._over = True
            self._give()

    def _give(self) -> None:
        while self._free and ((job := self._next()) is not None or (self._over and not self._begun)):
            self._free -= 1
            self._given.put(job)

    def _next(self) -> Job | None:
        if self._urgent:
            return self._urgent.popleft()
        for _ in range(len(self._turn) if self._places and not self._stopped else 0):
            lane = self._turn[0]
            self._turn.rotate(-1)
            if lane.waiting and lane.under_way < lane.limit:
                lane.under_way += 1
                self._places -= 1
                self._begun += 1
                return lane.waiting.popleft()
        return None
