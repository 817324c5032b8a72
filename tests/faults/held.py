"""A row that somebody else's open transaction holds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, transaction

from oauth_connect.models import Connection
from oauth_connect.stores.row import FOLLOW_UP_THREAD


@contextmanager
def held_by_another(connection: Connection, seconds: float = 20.0) -> Iterator[None]:
    """Keep a row locked, by a transaction of another thread, for the time given or the block's.

    Twenty seconds are more than a bounded wait takes, and less than MariaDB's own fifty.
    """
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                Connection.objects.filter(pk=connection.pk).update(account_label="held")
                locked.set()
                done.wait(seconds)
        finally:
            connections.close_all()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert locked.wait(10)
        yield
    finally:
        done.set()
        holder.join()


def wait_for_follow_ups() -> None:
    """SQLite: wait until what was saved inside a transaction has been saved once more after it."""
    for thread in threading.enumerate():
        if thread.name == FOLLOW_UP_THREAD:
            thread.join()
