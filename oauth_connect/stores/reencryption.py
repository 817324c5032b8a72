"""Replaces ciphertexts by new ciphertexts of the same values, with one compare-and-swap per row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from django.db import connections
from django.db.models import F, Model, QuerySet, Value
from django.db.models.lookups import Exact

from oauth_connect.stores.columns import sealed_column
from oauth_connect.stores.lock_timeouts import bounded_transaction

M = TypeVar("M", bound=Model)
LOCK_TIMEOUT = 0.5  # seconds


def swap_ciphertexts(new: Mapping[M, str], alias: str) -> set[M]:
    """Write new ciphertexts in one transaction, each only over the one that was read.

    Return the rows that were written. Rows that another transaction holds are skipped, and so are rows that a
    refresh, a reconnect or a disconnect has changed since. Raises OperationalError where the database is
    locked (SQLite) or reports a conflict (PostgreSQL under a strict isolation level).
    """
    with bounded_transaction(alias, LOCK_TIMEOUT):
        return {row for row in _lock(list(new), alias) if _swap(row, new[row], alias)}


def _lock(rows: list[M], alias: str) -> list[M]:
    """Lock rows for this transaction and return them, without those that another transaction holds."""
    if not connections[alias].features.has_select_for_update_skip_locked:
        return rows
    plain: QuerySet[Any] = QuerySet(type(rows[0]), using=alias)
    by_key = {row.pk: row for row in rows}
    locked = plain.filter(pk__in=by_key).select_for_update(skip_locked=True).values_list("pk", flat=True)
    return [by_key[pk] for pk in locked]


def _swap(row: Any, sealed: str, alias: str) -> bool:
    name = sealed_column(type(row))
    column = row._meta.get_field(name)
    # The lookup class itself: the column refuses comparisons, because plain values never match.
    unchanged = Exact(F(name), Value(getattr(row, name), output_field=column))
    same_version = {"version": row.version} if hasattr(row, "version") else {}
    plain: QuerySet[Any] = QuerySet(type(row), using=alias)
    return bool(plain.filter(unchanged, pk=row.pk, **same_version).update(**{name: sealed}))
