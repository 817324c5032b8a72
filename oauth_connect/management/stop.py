"""Lets SIGINT and SIGTERM ask a command to stop, so that it can finish what is in flight."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class StopRequest:
    """Whether a signal has asked the command to stop."""

    def __init__(self) -> None:
        self.asked = False
        self._then: Callable[[], None] = lambda: None
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ask(self) -> None:
        """Ask for a stop. Safe in a signal handler, whatever lock the interrupted thread holds."""
        self.asked = True
        self._wake.put(None)
        self._then()

    def then(self, call: Callable[[], None]) -> None:
        """Have ``call`` called on the request; immediately if the request has come before."""
        self._then = call
        if self.asked:
            call()

    def wait(self, seconds: float) -> None:
        """Wait for so many seconds, or until the request comes."""
        with suppress(queue.Empty):
            self._wake.get(timeout=seconds)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request to stop. The second one does what it always does.

    Without this, a token whose response is in flight would be lost.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: object) -> None:
        request.ask()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
