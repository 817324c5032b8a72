"""Threads of which one runs at a time, and which can be killed wherever they wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

HUNG = 60.0


class Killed(BaseException):
    """Nothing that this thread does takes effect any more; no ``except Exception`` may hold it up."""


class Actor:
    """Runs a job between one ``pause`` and the next, each time that it is stepped."""

    def __init__(self, job: Callable[[], Any]) -> None:
        self.done = False
        self.killed = False
        self.at = "start"
        self.result: Any = None
        self.error: BaseException | None = None
        self._job = job
        self._go, self._back = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return not (self.done or self.killed)

    def step(self) -> None:
        """Let it run until it pauses again or is done."""
        self._go.release()
        assert self._back.acquire(timeout=HUNG), f"hangs after {self.at}"
        if self.done:
            self._thread.join(HUNG)

    def kill(self) -> None:
        """As ``kill -9``: it ends where it waits."""
        self.killed = True
        self.step()

    def judge(self) -> None:
        """Look at how it ended, in the main thread."""

    def pause(self, at: str) -> None:
        """Wait, in the job, until it is stepped. What follows takes effect at that moment."""
        if not self.killed:
            self.at = at
            self._back.release()
            self._go.acquire()
        if self.killed:
            raise Killed

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self.killed:
                self.result = self._job()
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.done = True
            self._back.release()
