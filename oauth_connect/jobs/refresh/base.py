"""Base class of runs over due connections: an iterator that can be asked to stop."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import datetime, timedelta

from oauth_connect.engine.timing import pause
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.outcomes import Result
from oauth_connect.stores.row import RowStore

logger = logging.getLogger("oauth_connect")
LONGEST_BACK_OFF = 16  # failures after which ``pause`` grows no more


class Run(ABC):
    """Refreshes due connections. Iterate over it once: it yields a result for each connection.

    A row that fails does not stop the run. Raises django.db.Error where the next rows cannot be read, after
    the refreshes in flight have finished.
    """

    def __init__(self, due: Due, at_most: int | None = None) -> None:
        self.due = due
        self.left = at_most
        self.stopping = False

    def stop(self) -> None:
        """Stop claiming, release unsent rows, finish refreshes in flight. Safe in a signal handler."""
        self.stopping = True

    @abstractmethod
    def __iter__(self) -> Iterator[Result]: ...


def defer(store: RowStore, version: int, failures: int, horizon: datetime) -> None:
    """Move ``refresh_at`` of a row that cannot be refreshed, so that it does not block the queue.

    A row that a back-off has moved stays where it is. Raises nothing: if this write fails, the row comes
    first again in the next run.
    """
    until = horizon + timedelta(seconds=pause(LONGEST_BACK_OFF, None))
    try:
        store.defer_unstarted(version, failures, until)
    except Exception:
        logger.warning("a row could not be deferred", exc_info=True, extra={"action": "defer_failed"})
