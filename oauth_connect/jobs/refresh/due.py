"""Selects the connections that are due for a refresh."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from django.db import router
from django.db.models import Min, Q, QuerySet

from oauth_connect.models import Connection
from oauth_connect.models.querysets import ConnectionQuerySet

T = TypeVar("T")
INDEX = "oauth_connect_due"  # provider, refresh_at
CHUNK = 100  # rows of one provider in memory at a time


class Due:
    """The connections that are due now or ``within`` a time, of the given providers or of all.

    ``owner``: a user, an Owner or a key; only that owner's connections. ``pks``: only these connections. The
    time is fixed when the object is created, so no row comes twice, even if its new token expires soon.
    """

    def __init__(
        self,
        providers: Iterable[str] = (),
        within: timedelta = timedelta(0),
        *,
        owner: Any = None,
        pks: Iterable[uuid.UUID | str] | None = None,
    ) -> None:
        started = datetime.now(UTC)
        self.horizon = started + within
        self.named = tuple(dict.fromkeys(providers))
        # Read from the primary. A replica that lags would show rows that are no longer due.
        self.alias = router.db_for_write(Connection)
        self.stored: ConnectionQuerySet[Connection] = Connection.objects.using(self.alias)
        if owner is not None:
            self.stored = self.stored.for_owner(owner)
        if pks is not None:
            self.stored = self.stored.filter(pk__in=list(pks))
        # The index to search; "" if owner or keys already limit the rows.
        self.index = INDEX if owner is None and pks is None else ""
        out_of_back_off = Q(failures=0) | Q(refresh_at__lte=started)
        before_now = Q(last_refreshed_at=None) | Q(last_refreshed_at__lt=started)
        self.rows = self.stored.due(within).filter(out_of_back_off, before_now)

    def of(self, provider: str) -> ConnectionQuerySet[Connection]:
        return self.rows.filter(provider=provider)

    def counts(self) -> dict[str, int]:
        """Return the number of due connections of each provider that has any."""
        counted = ((slug, self.of(slug).count()) for slug in self.providers())
        return {slug: count for slug, count in counted if count}

    def providers(self) -> Iterator[str]:
        """Yield each provider that may have due connections. Costs one index lookup for each provider."""
        if self.named:
            yield from self.named
            return
        last = ""
        while last := self.stored.filter(provider__gt=last).aggregate(next=Min("provider"))["next"] or "":
            yield last

    def connections(self, provider: str) -> Iterator[Connection]:
        """Yield the due connections, the longest overdue first, with one chunk in memory at a time."""
        rows = self.of(provider).order_by("refresh_at", "pk")
        chunk = list(rows[:CHUNK])
        while chunk:
            # Noted before the caller uses them, because a refresh changes refresh_at of the instance.
            time, pk = chunk[-1].refresh_at, chunk[-1].pk
            yield from chunk
            chunk = list(keyset_page(rows, time, pk)[:CHUNK])

    def primary_keys(self, provider: str, size: int) -> Iterator[tuple[str, list[str]]]:
        """Yield chunks: the provider and up to ``size`` of its keys, the longest overdue first."""
        rows = self.of(provider).order_by("refresh_at", "pk").values_list("refresh_at", "pk")
        chunk = list(rows[:size])
        while chunk:
            yield provider, [str(pk) for _, pk in chunk]
            chunk = list(keyset_page(rows, *chunk[-1])[:size])


def keyset_page(rows: QuerySet[Any, T], time: datetime | None, pk: Any) -> QuerySet[Any, T]:
    """Return the rows after the one with this time and key, in the order of the index."""
    after = Q(refresh_at__gt=time) | Q(refresh_at=time, pk__gt=pk)
    return rows.filter(after, refresh_at__gte=time)
