"""A row that somebody else's open transaction holds."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection as database
from django.db import transaction

from oauth_connect.models import Connection
from tests.support.threads import meanwhile
from tests.support.waiting import TIMEOUT, Tally, eventually


@contextmanager
def held_by_another(connection: Connection, seconds: float = 20.0) -> Iterator[None]:
    """Keep a row locked, by a transaction of another thread, for the time given or the block's.

    Twenty seconds are more than a bounded wait takes, and less than MariaDB's own fifty.
    """
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Connection.objects.filter(pk=connection.pk).update(account_label="held")
            locked.set()
            done.wait(seconds)

    with meanwhile(hold):
        try:
            assert locked.wait(TIMEOUT)
            yield
        finally:
            done.set()


def wait_until_somebody_waits(sessions: int = 1) -> None:
    """Wait until other sessions of this test's database wait for a lock.

    SQLite has no sessions that could be looked at: there it is a moment, and what is shown is shown if it
    was long enough.
    """
    if database.vendor == "sqlite":
        time.sleep(0.5)
        return
    waiting = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND wait_event_type = 'Lock'",
        "mysql": "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p "
        "ON p.id = t.trx_mysql_thread_id WHERE t.trx_state = 'LOCK WAIT' AND p.db = DATABASE()",
    }

    def somebody_waits() -> bool:
        with database.cursor() as cursor:
            cursor.execute(waiting[database.vendor])
            return bool(cursor.fetchone()[0] >= sessions)

    # InnoDB shows the same list again until nobody on the server has read it for a tenth of a second. Workers
    # that looked in step kept it old for one another. SystemRandom: all workers have the seed of a test.
    interval = random.SystemRandom().uniform(0.5, 1.0)
    eventually(somebody_waits, f"{sessions} sessions that wait for a lock", interval=interval)


@contextmanager
def retries() -> Iterator[Tally]:
    """Count, in this process, how often a save that the database did not take is about to be repeated."""
    tally = Tally("a save was given up, to be repeated")

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if getattr(record, "action", "") == "save_retried":
                tally.add()

    listener = Listener(logging.WARNING)
    logger = logging.getLogger("oauth_connect")
    logger.addHandler(listener)
    try:
        yield tally
    finally:
        logger.removeHandler(listener)
