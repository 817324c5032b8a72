"""Re-encrypts stored tokens and registered clients with the first key of the ring, while the site is running.

There is no record of progress: a row that the first key opens is done. So a run that was stopped or killed
is continued by the next one, and any number of runs may work in parallel.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import OperationalError, router, transaction
from django.db.models import Model, QuerySet

from oauth_connect import crypto
from oauth_connect.models import Connection, PendingRevocation, RegisteredClient, history
from oauth_connect.models.fields import Sealed
from oauth_connect.stores.columns import bindings, sealed_column
from oauth_connect.stores.lock_timeouts import is_conflict, is_locked
from oauth_connect.stores.reencryption import swap_ciphertexts

# Every table with sealed values. (Sessions hold sealed authorization requests, for ten minutes.)
SEALED: Mapping[str, type[Model]] = {
    "connections": Connection,
    "pending_revocations": PendingRevocation,
    "registered_clients": RegisteredClient,
}
BATCH_SIZE = 500
FIRST_KEY = 0  # its index in the ring
MAX_TRIES = 10  # for a row that changes each time after it was read
RETRY_PAUSE = 0.1  # seconds; most transactions that hold a row are over by then


@dataclass(frozen=True, slots=True)
class Unopened:
    """A row that no key opens: its key is missing, or the value was sealed for another row."""

    table: str
    pk: str
    provider: str


@dataclass(frozen=True, slots=True)
class Batch:
    """The result for some rows of a table.

    ``opened_by``: how many rows each key opened, by its index. ``resealed``: how many of them the first key
    opens now. ``left``: how many rows another transaction held or kept changing; the next run tries them.
    """

    table: str
    opened_by: Counter[int] = field(default_factory=Counter)
    resealed: int = 0
    unopened: Sequence[Unopened] = ()
    left: int = 0


def count_by_key(table: str, batch_size: int = BATCH_SIZE) -> Iterator[Batch]:
    """Yield, batch by batch, which keys open the rows of a table. Changes nothing."""
    for rows in _pages(table, batch_size):
        opened, unopened = _open(table, rows)
        yield Batch(table, Counter(opened.values()), unopened=unopened)


def rotate(table: str, batch_size: int = BATCH_SIZE) -> Iterator[Batch]:
    """Re-encrypt the rows of a table, one batch a transaction. May be stopped between two batches.

    Only the ciphertext of a row is written, and only over the one that was read. Raises ImproperlyConfigured
    without a usable ring.
    """
    for rows in _pages(table, batch_size):
        yield _rotate(table, rows)


def count(table: str) -> int:
    """Return how many rows of a table hold a sealed value."""
    return _rows(table).count()


def _rotate(table: str, rows: list[Any]) -> Batch:
    opened_by: Counter[int] = Counter()
    resealed, unopened = 0, list[Unopened]()
    for _ in range(MAX_TRIES):
        opened, failed = _open(table, rows)
        older = [row for row, key in opened.items() if key != FIRST_KEY]
        done = _reencrypt(older, router.db_for_write(SEALED[table]))
        skipped = set(older) - done
        opened_by += Counter(key for row, key in opened.items() if row not in skipped)
        resealed += len(done)
        unopened += failed
        if not skipped:
            return Batch(table, opened_by, resealed, unopened)
        time.sleep(RETRY_PAUSE)
        # Read again what has changed: a machine with the old ring may have sealed it.
        rows = list(_rows(table).filter(pk__in=[row.pk for row in skipped]))
    return Batch(table, opened_by, resealed, unopened, left=len(rows))


def _reencrypt(rows: Sequence[Any], alias: str) -> set[Any]:
    """Re-encrypt rows in one transaction with their history, and return those that were written."""
    if not rows:
        return set()
    new = {row: Sealed(crypto.reencrypt(_sealed(row), *bindings(row))) for row in rows}
    try:
        with transaction.atomic(using=alias):
            done = swap_ciphertexts(new, alias)
            history.write(
                history.of(row, history.Action.KEY_ROTATED) for row in done if isinstance(row, Connection)
            )
    except OperationalError as error:
        if not (is_locked(error) or is_conflict(error)):
            raise
        return set()
    return done


def _open(table: str, rows: Sequence[Any]) -> tuple[dict[Any, int], list[Unopened]]:
    """Return the index of the key that opens each row, and the rows that no key opens."""
    indexes = {row: crypto.key_index(_sealed(row), *bindings(row)) for row in rows}
    opened = {row: key for row, key in indexes.items() if key is not None}
    return opened, [Unopened(table, str(row.pk), row.provider) for row in rows if row not in opened]


def _pages(table: str, size: int) -> Iterator[list[Any]]:
    """Read a table in the order of its key, so that writes in the meantime move nothing."""
    rows = _rows(table).order_by("pk")
    after: dict[str, Any] = {}
    while page := list(rows.filter(**after)[:size]):
        yield page
        after = {"pk__gt": page[-1].pk}


def _rows(table: str) -> QuerySet[Any]:
    model = SEALED[table]
    sealed = sealed_column(model)
    names = {"pk", "owner", "provider", sealed, "version"}
    columns = [
        field.name for field in model._meta.concrete_fields if field.name in names or field.primary_key
    ]
    # Read from the primary. A replica that lags would show ciphertexts that are no longer stored.
    rows: QuerySet[Any] = QuerySet(model, using=router.db_for_write(model))
    return rows.filter(**{f"{sealed}__isnull": False}).only(*columns)


def _sealed(row: Any) -> str:
    sealed: str = getattr(row, sealed_column(type(row)))
    return sealed
