"""What every run over due connections is: an iterator that can be asked to stop."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from oauth_connect.engine.refresh import pause
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.outcomes import Result
from oauth_connect.stores.row import RowStore

logger = logging.getLogger("oauth_connect")
LONGEST_BACK_OFF = 16  # failures after which ``pause`` grows no more


@dataclass(frozen=True, slots=True)
class Share:
    """What one of several processes gets of a number, so that together they get all of it."""

    place: int
    among: int

    def of(self, whole: int) -> int:
        return whole // self.among + (self.place < whole % self.among)


ALONE = Share(0, 1)


class Run(ABC):
    """Refreshes what is due; iterate over it, once, for how each connection went.

    One bad row stops nothing. The database's Error is raised where the next rows cannot be read, after what
    was under way has been finished.
    """

    def __init__(self, due: Due, at_most: int | None = None) -> None:
        self.due = due
        self.left = at_most
        self.stopping = False

    def stop(self) -> None:
        """Claim no more, free what has not been sent, finish what is under way. Safe in a signal handler."""
        self.stopping = True

    @abstractmethod
    def __iter__(self) -> Iterator[Result]: ...


def put_off(store: RowStore, version: int, failures: int, horizon: datetime) -> None:
    """Let a row that cannot succeed not head the queue; one that a back-off has moved stays there.

    Raises nothing: the row heads the queue once more, and the others must not wait for that.
    """
    until = horizon + timedelta(seconds=pause(LONGEST_BACK_OFF, None))
    try:
        store.defer(version, failures, until)
    except Exception:
        logger.warning("a row could not be put off", exc_info=True, extra={"action": "defer_failed"})
