"""Refreshes the connections that are due. A site runs it from cron, a command or a task.

Any number of runs may work in parallel, on any machine. The lease in each row decides which run refreshes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from django.db import connections

from oauth_connect.conf import conf
from oauth_connect.engine.refresh import Need
from oauth_connect.engine.store import Event
from oauth_connect.jobs.refresh.availability import why_unavailable
from oauth_connect.jobs.refresh.base import Run, defer
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.outcomes import LEAVE_ROW_ALONE, Result, outcome_of, result_of
from oauth_connect.jobs.refresh.worker_pool import WorkerPool
from oauth_connect.models import Connection
from oauth_connect.models.lifecycle import access
from oauth_connect.tracebacks import without_locals

WORKERS = 96


@without_locals
def refresh_due(due: Due, *, workers: int = WORKERS, at_most: int | None = None) -> Run:
    """Return the run that refreshes due connections, round robin over the providers.

    ``workers``: threads. ``at_most``: a limit of connections. Inside a transaction, as in a TestCase, the run
    refreshes them one after the other on the caller's database connection.
    """
    database: Any = connections[due.alias]
    if database.in_atomic_block or not database.get_autocommit():
        return SequentialRun(due, at_most)
    return WorkerPool(due, workers, at_most)


class SequentialRun(Run):
    """Refreshes one connection after the other on the caller's database connection, in its transaction."""

    def __iter__(self) -> Iterator[Result]:
        usable = [slug for slug in self.due.providers() if why_unavailable(slug, self.due.alias) is None]
        for connection in round_robin(self.due.connections(slug) for slug in usable):
            if self.stopping or self.left == 0:
                return
            if self.left is not None:
                self.left -= 1
            yield self._refresh(connection)

    def _refresh(self, connection: Connection) -> Result:
        """Refresh a connection, unless another caller has refreshed it or is refreshing it. Raises nothing.

        A row whose refresh cannot start is deferred: it is due again some minutes after the horizon.
        """
        events: list[Event] = []
        # Noted now: a refresh changes the instance.
        version, failures = connection.version, connection.failures
        store = access.row_store(connection, events.append)
        need = Need(conf.refresh_leeway, newer_than=version, wait=False)
        failure: Exception | None = None
        try:
            access.run_refresh(connection, need, store)
        except Exception as error:
            failure = error
            if outcome_of(error) not in LEAVE_ROW_ALONE:
                defer(store, version, failures, self.due.horizon)
        return result_of(connection, failure, events)


def round_robin(queues: Iterable[Iterator[Any]]) -> Iterator[Any]:
    """Yield items from the queues, round robin, until all are empty."""
    waiting = deque(queues)
    while waiting:
        queue = waiting.popleft()
        for item in queue:
            yield item
            waiting.append(queue)
            break
