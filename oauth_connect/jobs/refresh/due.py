"""What is due: the connections whose token should be refreshed by now."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from django.db import router
from django.db.models import Min, Q, QuerySet

from oauth_connect.models import Connection
from oauth_connect.models.owner import Owner
from oauth_connect.models.querysets import ConnectionQuerySet

T = TypeVar("T")
INDEX = "oauth_connect_due"  # provider, refresh_at
CHUNK = 100  # rows of one provider in memory at a time


class Due:
    """The connections that are due now or within a time, of the providers named, else of all.

    ``owner``: a user, an Owner or a key; only theirs. ``pks``: only these. What is due is decided when it is
    made: no row comes twice, however short its new token lives.
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
        # Never from a replica: what it has not heard of yet would be looked at for nothing.
        self.alias = router.db_for_write(Connection)
        self.stored: ConnectionQuerySet[Connection] = Connection.objects.using(self.alias)
        if owner is not None:
            self.stored = self.stored.filter(owner=Owner.of(owner).key)
        if pks is not None:
            self.stored = self.stored.filter(pk__in=list(pks))
        # By which to find them, unless they are few and named.
        self.index = INDEX if owner is None and pks is None else ""
        out_of_back_off = Q(failures=0) | Q(refresh_at__lte=started)
        before_now = Q(last_refreshed_at=None) | Q(last_refreshed_at__lt=started)
        self.rows = self.stored.due(within).filter(out_of_back_off, before_now)

    def of(self, provider: str) -> ConnectionQuerySet[Connection]:
        return self.rows.filter(provider=provider)

    def counts(self) -> dict[str, int]:
        """How many are due of each provider that has any."""
        counted = ((slug, self.of(slug).count()) for slug in self.providers())
        return {slug: count for slug, count in counted if count}

    def providers(self) -> Iterator[str]:
        """Each provider that may have any: one look into the index for each, whatever is due."""
        if self.named:
            yield from self.named
            return
        last = ""
        while last := self.stored.filter(provider__gt=last).aggregate(next=Min("provider"))["next"] or "":
            yield last

    def connections(self, provider: str) -> Iterator[Connection]:
        """The longest overdue first, a chunk in memory at a time."""
        rows = self.of(provider).order_by("refresh_at", "pk")
        chunk = list(rows[:CHUNK])
        while chunk:
            # Noted before they are used: a refresh moves refresh_at on the instance too.
            time, pk = chunk[-1].refresh_at, chunk[-1].pk
            yield from chunk
            chunk = list(keyset_page(rows, time, pk)[:CHUNK])

    def primary_keys(self, provider: str, size: int) -> Iterator[tuple[str, list[str]]]:
        """The provider and at most so many of its keys, the longest overdue first; again, until all came."""
        rows = self.of(provider).order_by("refresh_at", "pk").values_list("refresh_at", "pk")
        chunk = list(rows[:size])
        while chunk:
            yield provider, [str(pk) for _, pk in chunk]
            chunk = list(keyset_page(rows, *chunk[-1])[:size])


def keyset_page(rows: QuerySet[Any, T], time: datetime | None, pk: Any) -> QuerySet[Any, T]:
    """The rows after that one, in the order of the index."""
    after = Q(refresh_at__gt=time) | Q(refresh_at=time, pk__gt=pk)
    return rows.filter(after, refresh_at__gte=time)
