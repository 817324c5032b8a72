"""Jobs of which one runs at a time, and which can be killed wherever they wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

HUNG = 60.0


class Killed(BaseException):
    """Nothing that this job does takes effect any more; no ``except Exception`` may hold it up."""


class Actor:
    """Runs a job from one ``pause`` to another, each time that it is run on."""

    def __init__(self, job: Callable[[], Any]) -> None:
        self.done = False
        self.killed = False
        self.at = "start"
        self.result: Any = None
        self.error: BaseException | None = None
        self._job = job
        self._hand: Hand | None = None
        self._paused: Callable[[], bool] = bool

    @property
    def alive(self) -> bool:
        return not (self.done or self.killed)

    def run_on(self, paused: Callable[[], bool]) -> None:
        """Let it run until it is done, or ``paused``, called at each pause, says that it goes no further.

        To pause costs two switches of threads; ``paused`` runs in the job's own thread and costs none.
        """
        self._paused = paused
        self._hand = self._hand or crew.hand()
        self._hand.take(self)
        if self.done:
            crew.idle.append(self._hand)
            self._hand = None

    def kill(self) -> None:
        """As ``kill -9``: it ends where it waits."""
        self.killed = True
        self.run_on(bool)

    def judge(self) -> None:
        """Look at how it ended, in the main thread."""

    def pause(self, at: str) -> None:
        """Wait, in the job, until it is run on. What follows takes effect at that moment."""
        if not self.killed:
            self.at = at
            if not self._paused():
                assert self._hand is not None
                self._hand.give_back()
        if self.killed:
            raise Killed

    def work(self) -> None:
        """Do the job, in the thread of a hand."""
        try:
            if not self.killed:
                self.result = self._job()
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.done = True


class Hand:
    """A thread that does one job after another. It runs only while the giver of the job waits."""

    def __init__(self) -> None:
        self._actor: Actor | None = None
        self._go, self._back = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def take(self, actor: Actor) -> None:
        """Begin the actor's job, or go on with it. Returns when the job pauses or is done."""
        self._actor = actor
        self._go.release()
        assert self._back.acquire(timeout=HUNG), f"hangs after {actor.at}"

    def give_back(self) -> None:
        self._back.release()
        self._go.acquire()

    def dismiss(self) -> None:
        self._actor = None
        self._go.release()
        self._thread.join(HUNG)

    def _run(self) -> None:
        self._go.acquire()
        while self._actor is not None:
            self._actor.work()
            self.give_back()


class WorkerPool:
    """The hands that have nothing to do: a new thread for each of many thousand jobs takes its time."""

    def __init__(self) -> None:
        self.idle: list[Hand] = []

    def hand(self) -> Hand:
        return self.idle.pop() if self.idle else Hand()

    def dismiss(self) -> None:
        """Let their threads end."""
        while self.idle:
            self.idle.pop().dismiss()


crew = WorkerPool()
