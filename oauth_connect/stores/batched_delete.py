"""Deletes old rows in batches, because one DELETE of a million rows would block other transactions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

from django.db import connections, router, transaction
from django.db.models import Exists, ForeignObjectRel, OuterRef, QuerySet

from oauth_connect.stores.lock_timeouts import locking, retried

BATCH = 500


def in_batches(rows: Any, column: str, before: datetime) -> Iterator[int]:
    """Delete rows whose indexed column is before a moment, the oldest first. Yield the size of each batch.

    Each batch is its own transaction. A caller that stops iterating stops the work, and the next call
    continues. Several may run in parallel. If the database can skip locked rows, they delete different rows.
    """
    alias = rows._db or router.db_for_write(rows.model)
    oldest = rows.using(alias).filter(**{f"{column}__lt": before}).order_by(column, "pk")
    reached: dict[str, datetime] = {}
    while (
        batch := retried(alias, partial(_delete_once, oldest.filter(**reached), column, alias))
    ) is not None:
        # Start from here: otherwise the next batch reads the dead index entries of this one again.
        reached = {f"{column}__gte": batch[1]}
        yield batch[0]


def unreferenced(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Return the rows that no other row references. Deleting the others would cascade."""
    for relation in rows.model._meta.get_fields(include_hidden=True):
        if isinstance(relation, ForeignObjectRel) and (relation.one_to_many or relation.one_to_one):
            related = relation.related_model._base_manager.using(rows.db)
            rows = rows.exclude(Exists(related.filter(**{relation.field.name: OuterRef("pk")})))
    return rows


def by_key(rows: QuerySet[Any]) -> Iterator[int]:
    """Delete rows in batches, in the order of their key. Yield the size of each batch.

    It reads the table once, so the conditions need no index. It locks a row before it deletes it, and keeps
    rows that no longer meet the conditions.
    """
    reached: dict[str, Any] = {}
    while (
        batch := retried(rows.db, partial(_delete_page, rows.filter(**reached).order_by("pk")))
    ) is not None:
        reached = {"pk__gt": batch[1]}
        yield batch[0]


def _delete_page(rows: QuerySet[Any]) -> tuple[int, Any] | None:
    """Delete a batch. Return its size and the key of its last row, or None if no row is left."""
    features = connections[rows.db].features
    with transaction.atomic(using=rows.db):
        batch = rows.select_for_update(skip_locked=features.has_select_for_update_skip_locked)
        keys = list(batch.values_list("pk", flat=True)[:BATCH])
        if not keys:
            return None
        plain: QuerySet[Any] = QuerySet(rows.model, using=rows.db)
        plain.filter(pk__in=keys).delete()
    return len(keys), keys[-1]


def _delete_once(rows: QuerySet[Any], column: str, alias: str) -> tuple[int, datetime] | None:
    """Delete a batch. Return the number of deleted rows and the last moment, or None if no row is left."""
    features = connections[alias].features
    with locking(alias):
        batch = rows.select_for_update(skip_locked=features.has_select_for_update_skip_locked)
        pairs = list(batch.values_list("pk", column)[:BATCH])
        if not pairs:
            return None
        plain: QuerySet[Any] = QuerySet(rows.model, using=alias)
        deleted, _ = plain.filter(pk__in=[pk for pk, _ in pairs]).delete()
    return deleted, pairs[-1][1]
