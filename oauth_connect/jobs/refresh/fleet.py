"""A run of several processes, each with workers of its own: one interpreter keeps one core busy."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from typing import Any

from django.db import Error, connections

from oauth_connect.jobs.refresh.base import ALONE, Run, Share
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.outcomes import Result
from oauth_connect.jobs.refresh.worker_pool import Crew

FORK = "fork"  # it starts in milliseconds, and what is set up stays set up
STOPS = (signal.SIGINT, signal.SIGTERM)
TOGETHER = 50  # results of a process that are told at once, unless
WITHIN = 0.1  # seconds have passed since it last told


class ProcessLost(Exception):
    """A process of the run has died, and taken along what it was doing."""

    def __init__(self, exit_code: int | None) -> None:
        super().__init__(
            f"A process of this run ended with exit code {exit_code}. What it had claimed and not sent is "
            "due again when its leases have run out; a token whose answer was under way may be lost."
        )


def can_fork() -> bool:
    return FORK in multiprocessing.get_all_start_methods()


class Fleet(Run):
    """The processes of a run. Each claims for itself; who iterates hears of all.

    A provider that takes few requests at once is none of some processes' business. What these leave of a
    limit by which others are bound is for one process more, when all are done.

    The process that iterates must have no other threads: a fork copies their locks and not them. When it is
    killed, the others claim no more, finish what is under way and end. Besides the database's Error,
    ProcessLost is raised when the others are done.
    """

    def __init__(self, due: Due, workers: int, processes: int, at_most: int | None = None) -> None:
        super().__init__(due, at_most)
        self.workers = workers
        self.processes = processes
        self.leftovers: list[int] = []
        self.children: dict[Pipe, Any] = {}
        self.problem: Exception | None = None

    def stop(self) -> None:
        super().stop()
        for child in list(self.children.values()):
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGTERM)

    def __iter__(self) -> Iterator[Result]:
        try:
            yield from self._round([Share(place, self.processes) for place in range(self.processes)])
            if leftover := self._leftover():
                self.left = leftover
                yield from self._round([ALONE])
        finally:
            self.stop()
            for _ in self._results():
                pass
        if self.problem is not None:
            raise self.problem

    def _round(self, shares: Sequence[Share]) -> Iterator[Result]:
        self._start(shares)
        yield from self._results()

    def _leftover(self) -> int:
        """How much of the limit some have left and others might have used."""
        over = self.stopping or self.problem is not None
        return 0 if over or 0 not in self.leftovers else sum(self.leftovers)

    def _start(self, shares: Sequence[Share]) -> None:
        hand_back_connections()
        context: Any = multiprocessing.get_context(FORK)
        with _held_back():
            for share in shares if not self.stopping else ():
                ours, theirs = context.Pipe(duplex=False)
                inherited = [*self.children, ours]
                child = context.Process(target=self._serve, args=(share, theirs, inherited))
                child.start()
                theirs.close()
                self.children[ours] = child

    def _results(self) -> Iterator[Result]:
        while self.children:
            for pipe in wait(list(self.children)):
                assert isinstance(pipe, Pipe)  # noqa: S101  (nothing else was waited for)
                try:
                    results, problem, left = pipe.recv()
                except EOFError:
                    self._ended(pipe)
                    continue
                if problem is not None:
                    self.problem = problem()
                if left is not None:
                    self.leftovers.append(left)
                yield from results

    def _ended(self, pipe: Pipe) -> None:
        child = self.children.pop(pipe)  # before its number may become another's
        child.join()
        pipe.close()
        if child.exitcode:
            self.problem = ProcessLost(child.exitcode)

    # --- in the new process -----------------------------------------------------------------------

    def _serve(self, share: Share, pipe: Pipe, inherited: list[Pipe]) -> None:
        for other in inherited:
            other.close()  # or the end of the one who reads would not be noticed
        gc.freeze()  # what its maker left is never garbage here, and long to look through
        teller = _Teller(pipe)
        try:
            crew = Crew(self.due, self.workers, self.left, share)
            _obey(crew.stop)
            for result in crew:
                if not teller.add(result):
                    crew.stop()
            teller.tell(left=crew.left)
        except Error as error:
            teller.tell(problem=type(error))  # its words may quote a row
        finally:
            connections.close_all()


class _Teller:
    """Tells the maker of a process how it goes, several results at once: each message wakes who reads."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.results: list[Result] = []
        self.told_at = time.monotonic()

    def add(self, result: Result) -> bool:
        """False: nobody reads any more."""
        self.results.append(result)
        if len(self.results) < TOGETHER and time.monotonic() - self.told_at < WITHIN:
            return True
        return self.tell()

    def tell(self, *, problem: type[Exception] | None = None, left: int | None = None) -> bool:
        """Tell what has not been told; at the end also what is ``left`` of the process's share of a limit.

        False: nobody reads any more.
        """
        try:
            self.pipe.send((self.results, problem, left))
        except OSError:
            return False
        finally:
            self.results, self.told_at = [], time.monotonic()
        return True


def hand_back_connections() -> None:
    """Close what no two processes may use: database connections, and the pools of those."""
    for connection in connections.all(initialized_only=True):
        connection.close()
        close_pool: Callable[[], None] | None = getattr(connection, "close_pool", None)
        if close_pool is not None:
            close_pool()


@contextmanager
def _held_back() -> Iterator[None]:
    """Let no signal in while processes are made: a new one would take it for its maker's."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _obey(stop: Callable[[], None]) -> None:
    """Have SIGTERM ask for an end. Ctrl-C reaches every process of a terminal; its maker passes it on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: stop())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
