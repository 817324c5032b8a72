"""Sealing anew under the first key of the ring what older keys have sealed, while the site goes on.

Nothing says where a run is: what opens with the first key alone is done. So a run that was stopped or
killed goes on with the next, and any number may run at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import OperationalError, connections, router, transaction
from django.db.models import Model, QuerySet

from oauth_connect import crypto
from oauth_connect.models import Connection, PendingRevocation, history
from oauth_connect.models.fields import Sealed
from oauth_connect.stores.columns import binding
from oauth_connect.stores.placement import is_conflict, is_locked
from oauth_connect.stores.resealing import Exchanges

# Every table with sealed tokens. (Flows under way are sealed in sessions, for ten minutes.)
SEALED: Mapping[str, type[Model]] = {
    "connections": Connection,
    "pending_revocations": PendingRevocation,
}
BATCH_SIZE = 500
NEWEST = 0  # the first key's place in the ring
ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Unopened:
    """A row that no key opens: its key is missing, or the value was sealed for another row."""

    what: str
    pk: str
    provider: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of some rows of a table.

    ``opened_by``: how many each key has opened, by its place in the ring. ``resealed``: so many of them
    are under the first key now. ``left``: so many were held by somebody each time; the next run may get them.
    """

    what: str
    opened_by: Counter[int] = field(default_factory=Counter)
    resealed: int = 0
    unopened: Sequence[Unopened] = ()
    left: int = 0


def look(what: str, batch_size: int = BATCH_SIZE) -> Iterator[Batch]:
    """Tell, batch by batch, which keys the rows of a table need; changes nothing."""
    for rows in _pages(what, batch_size):
        places = _places(rows)
        yield Batch(what, Counter(_opened(places).values()), unopened=_unopened(what, places))


def rotate(what: str, batch_size: int = BATCH_SIZE) -> Iterator[Batch]:
    """Seal the rows of a table anew, batch by batch, each a transaction of its own; may be stopped between.

    Of a row only the ciphertext is written, and only over the one that was read: whatever has changed
    meanwhile is looked at again. Raises ImproperlyConfigured without a usable ring.
    """
    exchanges = Exchanges(SEALED[what], router.db_for_write(SEALED[what]))
    pages = _pages(what, batch_size)
    for _ in range(ROUNDS):
        missed: list[Any] = []
        for rows in pages:
            batch, others = _reseal(what, rows, exchanges)
            missed += [row.pk for row in others]
            yield batch
        if not missed:
            return
        pages = _again(what, missed, batch_size)
    yield Batch(what, left=len(missed))


def count(what: str) -> int:
    """Return how many rows of a table hold a token."""
    return _rows(what).count()


def _reseal(what: str, rows: Sequence[Any], exchanges: Exchanges) -> tuple[Batch, list[Any]]:
    """Return what became of rows, and those that somebody has changed or holds."""
    places = _places(rows)
    opened = _opened(places)
    older = [row for row, place in opened.items() if place != NEWEST]
    done = _exchanged(older, exchanges)
    missed = set(older) - done
    opened_by = Counter(place for row, place in opened.items() if row not in missed)
    return Batch(what, opened_by, len(done), _unopened(what, places)), list(missed)


def _exchanged(rows: Sequence[Any], exchanges: Exchanges) -> set[Any]:
    """Seal rows anew, one by one where somebody holds one of them; return those for which it was done."""
    if not rows:
        return set()
    anew = {row: Sealed(crypto.reseal(row.sealed_token, binding(row))) for row in rows}
    try:
        return _exchange(anew, exchanges)
    except OperationalError as error:
        if not (is_locked(error) or is_conflict(error)):
            raise
    if len(rows) == 1 or not connections[exchanges.alias].features.has_select_for_update:
        return set()  # without row locks (SQLite) it is no single row that is held
    return {done for row in rows for done in _exchanged([row], exchanges)}


def _exchange(anew: Mapping[Any, Any], exchanges: Exchanges) -> set[Any]:
    with transaction.atomic(using=exchanges.alias):
        done = exchanges.run(anew)
        entries = [history.of(row, history.Action.KEY_ROTATED) for row in done if isinstance(row, Connection)]
        if entries:
            history.write(entries)
    return set(done)


# --- reading --------------------------------------------------------------------------------------


def _places(rows: Iterable[Any]) -> dict[Any, int | None]:
    """Return the place of the key that opens each row; None: no key does."""
    return {row: crypto.opener(row.sealed_token, binding(row)) for row in rows}


def _opened(places: Mapping[Any, int | None]) -> dict[Any, int]:
    return {row: place for row, place in places.items() if place is not None}


def _unopened(what: str, places: Mapping[Any, int | None]) -> list[Unopened]:
    return [Unopened(what, str(row.pk), row.provider) for row, place in places.items() if place is None]


def _pages(what: str, size: int) -> Iterator[list[Any]]:
    """Read a table in the order of its key: what is written meanwhile moves nothing."""
    rows = _rows(what).order_by("pk")
    after: dict[str, Any] = {}
    while page := list(rows.filter(**after)[:size]):
        yield page
        after = {"pk__gt": page[-1].pk}


def _again(what: str, pks: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for begin in range(0, len(pks), size):
        yield list(_rows(what).filter(pk__in=pks[begin : begin + size]))


def _rows(what: str) -> QuerySet[Any]:
    model = SEALED[what]
    names = {"pk", "owner", "provider", "sealed_token", "version"}
    known = [field.name for field in model._meta.concrete_fields if field.name in names or field.primary_key]
    # Never a replica's: what it has not heard of yet would be sealed over, and left.
    rows: QuerySet[Any] = QuerySet(model, using=router.db_for_write(model))
    return rows.filter(sealed_token__isnull=False).only(*known)
