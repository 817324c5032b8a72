"""Refreshing whatever is due: what a site asks for from cron, a command or a task.

Any number of these may run at once, on any machine: the lease in each row decides who refreshes it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from django.db import connections

from oauth_connect.conf import conf
from oauth_connect.engine.refresh import Need
from oauth_connect.engine.store import Event
from oauth_connect.jobs.refresh.availability import why_unavailable
from oauth_connect.jobs.refresh.base import Run, put_off
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.fleet import Fleet
from oauth_connect.jobs.refresh.outcomes import CRASHED, LEFT_AS_THEY_ARE, Result, Verdict, judged
from oauth_connect.jobs.refresh.worker_pool import Crew
from oauth_connect.models import Connection, access
from oauth_connect.stores.waits import commits_by_itself

logger = logging.getLogger("oauth_connect")
WORKERS = 96


def refresh_due(due: Due, *, workers: int = WORKERS, processes: int = 1, at_most: int | None = None) -> Run:
    """Return the run that refreshes what is due, at most so many, a connection of each provider in turn.

    ``workers`` are those of all ``processes`` together. Inside a transaction, as in a TestCase, they are
    refreshed one after the other on the caller's connection; in a database in memory by this process.
    """
    database: Any = connections[due.alias]
    if database.in_atomic_block or not database.get_autocommit():
        return OneByOne(due, at_most)
    in_memory = database.vendor == "sqlite" and database.is_in_memory_db()
    if processes > 1 and not in_memory:
        return Fleet(due, workers, min(processes, workers), at_most)
    return Crew(due, workers, at_most)


class OneByOne(Run):
    """One after the other, on the caller's own connection, whatever transaction it is in."""

    def __iter__(self) -> Iterator[Result]:
        usable = [slug for slug in self.due.providers() if why_unavailable(slug, self.due.alias) is None]
        for connection in in_turn(self.due.connections(slug) for slug in usable):
            if self.stopping or self.left == 0:
                return
            if self.left is not None:
                self.left -= 1
            yield refresh_one(connection, horizon=self.due.horizon)


def refresh_one(connection: Connection, *, horizon: datetime | None = None) -> Result:
    """Refresh a connection unless somebody else has since it was read, or is at it; never waits for them.

    Raises nothing. A row with which a refresh could not begin is next due some minutes after ``horizon``.
    """
    heard: list[Event] = []
    # Noted now: a refresh changes the instance.
    version, failures = connection.version, connection.failures
    store = access.row_store(connection, heard.append)
    try:
        access.obtain(connection, Need(conf.refresh_leeway, newer_than=version, patient=False), store)
    except Exception as error:
        verdict = judged(error)
        if verdict == CRASHED:
            logger.exception("a refresh crashed", extra={"action": "refresh_crashed"})
            if commits_by_itself(connections[store.alias]):  # else Django ends a transaction without a word
                connections[store.alias].close_if_unusable_or_obsolete()
        if verdict not in LEFT_AS_THEY_ARE:
            put_off(store, version, failures, horizon or datetime.now(UTC))
    else:
        saved = any(event.action == "refreshed" for event in heard)
        verdict = Verdict("refreshed" if saved else "not_needed")
    return Result(verdict.outcome, verdict.code, connection.provider, connection.pk)


def in_turn(queues: Iterable[Iterator[Any]]) -> Iterator[Any]:
    """Yield one of each queue in turn, until all are empty."""
    waiting = deque(queues)
    while waiting:
        queue = waiting.popleft()
        for item in queue:
            yield item
            waiting.append(queue)
            break
