"""A clock that a test sets."""

from __future__ import annotations


class Clock:
    """Time, in seconds, that passes only while a test sleeps or changes ``now``."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
