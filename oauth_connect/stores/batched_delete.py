"""Deleting what is old, a batch at a time: one DELETE of a million rows would hold everybody up."""

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
    """Delete rows whose indexed column lies before a moment, the oldest first; yield how many each time.

    Each batch is a transaction of its own: whoever stops iterating stops the work, and whoever begins
    again goes on. Any number may run at once; where the database can, each takes rows of its own.
    """
    alias = rows._db or router.db_for_write(rows.model)
    oldest = rows.using(alias).filter(**{f"{column}__lt": before}).order_by(column, "pk")
    reached: dict[str, datetime] = {}
    while (
        batch := retried(alias, partial(_delete_once, oldest.filter(**reached), column, alias))
    ) is not None:
        # From here on: the index's dead entries before it need not be walked again.
        reached = {f"{column}__gte": batch[1]}
        yield batch[0]


def unreferenced(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Return those rows to which no row of another table points: the others would take that along."""
    for relation in rows.model._meta.get_fields(include_hidden=True):
        if isinstance(relation, ForeignObjectRel) and (relation.one_to_many or relation.one_to_one):
            pointing = relation.related_model._base_manager.using(rows.db)
            rows = rows.exclude(Exists(pointing.filter(**{relation.field.name: OuterRef("pk")})))
    return rows


def by_key(rows: QuerySet[Any]) -> Iterator[int]:
    """Delete rows in batches, in the order of their key, and yield how many each time.

    For conditions without an index: the table is walked once. A row is locked before it is deleted, so that
    one for which they no longer hold stays.
    """
    reached: dict[str, Any] = {}
    while (
        batch := retried(rows.db, partial(_delete_page, rows.filter(**reached).order_by("pk")))
    ) is not None:
        reached = {"pk__gt": batch[1]}
        yield batch[0]


def _delete_page(rows: QuerySet[Any]) -> tuple[int, Any] | None:
    """Return how many rows are gone, and the last one's key."""
    features = connections[rows.db].features
    with transaction.atomic(using=rows.db):
        batch = rows.select_for_update(skip_locked=features.has_select_for_update_skip_locked)
        found = list(batch.values_list("pk", flat=True)[:BATCH])
        if not found:
            return None
        plain: QuerySet[Any] = QuerySet(rows.model, using=rows.db)
        plain.filter(pk__in=found).delete()
    return len(found), found[-1]


def _delete_once(rows: QuerySet[Any], column: str, alias: str) -> tuple[int, datetime] | None:
    """Return how many rows are gone and the last one's moment; None: there are no more."""
    features = connections[alias].features
    with locking(alias):
        batch = rows.select_for_update(skip_locked=features.has_select_for_update_skip_locked)
        found = list(batch.values_list("pk", column)[:BATCH])
        if not found:
            return None
        plain: QuerySet[Any] = QuerySet(rows.model, using=alias)
        deleted, _ = plain.filter(pk__in=[pk for pk, _ in found]).delete()
    return deleted, found[-1][1]
