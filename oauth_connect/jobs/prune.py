"""Removing what nobody needs any more: old history, states that are used up, connections that ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from django.db import router
from django.db.models import QuerySet

from oauth_connect.models import Connection, ConnectionEvent, ConsumedState, pruning

# A state is refused by its age on any machine, and their clocks differ.
CLOCKS_APART = timedelta(hours=1)


class Prunable(Protocol):
    """Rows that may go."""

    @property
    def what(self) -> str: ...

    def count(self) -> int: ...

    def prune(self) -> Iterator[int]:
        """Delete them in batches, and yield how many each time; may be stopped between two."""
        ...


@dataclass(frozen=True, slots=True)
class Old:
    """The rows of one table that are from before a moment, by an indexed column."""

    what: str
    model: Any
    column: str
    before: datetime

    def count(self) -> int:
        return int(self._rows().filter(**{f"{self.column}__lt": self.before}).count())

    def prune(self) -> Iterator[int]:
        """Delete them in batches, and yield how many each time; may be stopped between two."""
        return pruning.in_batches(self._rows(), self.column, self.before)

    def _rows(self) -> Any:
        # Never a replica's: what it has not heard of yet would be missed.
        return self.model.objects.using(router.db_for_write(self.model))


@dataclass(frozen=True, slots=True)
class Ended:
    """Connections that were disconnected before a moment, and to which nothing of the site's own points."""

    before: datetime
    what: str = "revoked_connections"

    def count(self) -> int:
        return self._rows().count()

    def prune(self) -> Iterator[int]:
        return pruning.by_key(self._rows())

    def _rows(self) -> QuerySet[Any]:
        rows: QuerySet[Any] = QuerySet(Connection, using=router.db_for_write(Connection))
        ended = rows.filter(
            status=Connection.Status.REVOKED, sealed_token__isnull=True, updated_at__lt=self.before
        )
        return pruning.unreferenced(ended)


def old(history_days: int | None, revoked_days: int | None) -> list[Prunable]:
    """Return all that may go, by its age in days; None: it stays.

    What else is to be cleared away belongs in here.
    """
    now = datetime.now(UTC)
    found: list[Prunable] = [Old("consumed_states", ConsumedState, "expires_at", now - CLOCKS_APART)]
    if history_days is not None:
        before = now - timedelta(days=history_days)
        found.insert(0, Old("history", ConnectionEvent, "created_at", before))
    if revoked_days is not None:
        found.append(Ended(now - timedelta(days=revoked_days)))
    return found
