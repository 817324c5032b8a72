"""Deletes rows that are no longer needed: old history, used states, ended connections, kept tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from django.db import router
from django.db.models import Q, QuerySet

from oauth_connect.models import Connection, ConnectionEvent, ConsumedState, Owner, PendingRevocation
from oauth_connect.models.row import rows_of
from oauth_connect.stores import batched_delete

# A state is refused by its age on every machine, and the clocks of machines differ.
CLOCK_DIFFERENCE = timedelta(hours=1)


class Prunable(Protocol):
    """Rows that can be deleted."""

    @property
    def table(self) -> str: ...

    def count(self) -> int: ...

    def prune(self) -> Iterator[int]:
        """Delete them in batches, and yield the size of each batch. May be stopped between two batches."""
        ...


@dataclass(frozen=True, slots=True)
class ExpiredRows:
    """The rows of one table from before a moment, by an indexed column."""

    table: str
    model: Any
    column: str
    before: datetime

    def count(self) -> int:
        return int(self._rows().filter(**{f"{self.column}__lt": self.before}).count())

    def prune(self) -> Iterator[int]:
        return batched_delete.in_batches(self._rows(), self.column, self.before)

    def _rows(self) -> Any:
        return _primary(self.model)


@dataclass(frozen=True, slots=True)
class DisconnectedConnections:
    """Connections that were disconnected before a moment, and that no row of the site refers to."""

    before: datetime
    table: str = "revoked_connections"

    def count(self) -> int:
        return self._rows().count()

    def prune(self) -> Iterator[int]:
        return batched_delete.by_key(self._rows())

    def _rows(self) -> QuerySet[Any]:
        ended = rows_of(Connection, router.db_for_write(Connection)).filter(
            status=Connection.Status.REVOKED, sealed_token__isnull=True, updated_at__lt=self.before
        )
        return batched_delete.unreferenced(ended)


@dataclass(frozen=True, slots=True)
class KeptTokens:
    """Tokens that are kept for their revocation: those that have expired, and those from before a moment."""

    before: datetime | None
    table: str = "kept_tokens"

    def count(self) -> int:
        return self._rows().count()

    def prune(self) -> Iterator[int]:
        return batched_delete.by_key(self._rows())

    def _rows(self) -> QuerySet[Any]:
        old = Q(expires_at__lt=datetime.now(UTC))
        if self.before is not None:
            old |= Q(created_at__lt=self.before)
        rows: QuerySet[Any] = _primary(PendingRevocation).kept().filter(old)
        return rows


@dataclass(frozen=True, slots=True)
class EventsOf:
    """The history of one owner. Where the owner is a user, also the user's name in the history of others."""

    owner: Owner
    table: str = "history"

    def count(self) -> int:
        return self._rows().count()

    def prune(self) -> Iterator[int]:
        yield from batched_delete.by_key(self._rows())
        if self.owner.user is not None:
            _primary(ConnectionEvent).filter(actor=self.owner.user).update(actor=None)

    def _rows(self) -> QuerySet[Any]:
        rows: QuerySet[Any] = _primary(ConnectionEvent).filter(owner=self.owner.key)
        return rows


def prunable(history_days: int | None, revoked_days: int | None) -> list[Prunable]:
    """Return all rows that can be deleted by their age in days; None: keep them."""
    now = datetime.now(UTC)
    found: list[Prunable] = [
        ExpiredRows("consumed_states", ConsumedState, "expires_at", now - CLOCK_DIFFERENCE)
    ]
    if history_days is not None:
        before = now - timedelta(days=history_days)
        found.insert(0, ExpiredRows("history", ConnectionEvent, "created_at", before))
    ended = None if revoked_days is None else now - timedelta(days=revoked_days)
    if ended is not None:
        found.append(DisconnectedConnections(ended))
    found.append(KeptTokens(ended))
    return found


def _primary(model: Any) -> Any:
    """Return the rows of the primary. A replica that lags would not show all."""
    return model.objects.using(router.db_for_write(model))
