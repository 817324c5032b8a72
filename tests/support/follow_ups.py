"""Waits for the follow-up thread, which on SQLite writes after a transaction what it left to do."""

from __future__ import annotations

import threading

from oauth_connect.stores.row import FOLLOW_UP_THREAD


def wait_for_follow_ups() -> None:
    """Wait until the values saved inside a transaction are saved again after it. Only SQLite needs this."""
    for thread in threading.enumerate():
        if thread.name == FOLLOW_UP_THREAD:
            thread.join()
