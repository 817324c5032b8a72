"""Turns SIGINT and SIGTERM into a request to stop, so that a command can finish what is in flight."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class StopRequest:
    """Records whether a signal has asked the command to stop."""

    def __init__(self) -> None:
        self.asked = False
        self._then: Callable[[], None] = lambda: None
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ask(self) -> None:
        """Request a stop. A signal handler may call this, whatever lock the interrupted thread holds."""
        self.asked = True
        self._wake.put(None)
        self._then()

    def then(self, call: Callable[[], None]) -> None:
        """Register a function to call on the request. If the request came before, call it immediately."""
        self._then = call
        if self.asked:
            call()

    def wait(self, seconds: float) -> None:
        """Wait for so many seconds, or until a stop is requested."""
        with suppress(queue.Empty):
            self._wake.get(timeout=seconds)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request to stop. The second one has its usual effect.

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
