"""Sealed tokens put in the place of the very same ones sealed otherwise; whatever has changed is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import connections, transaction
from django.db.models import F, Field, Model, QuerySet
from django.db.models.lookups import Exact
from django.db.models.sql import UpdateQuery

from oauth_connect.stores.batch import Slot, bounded, filled


class Exchanges:
    """The statement that exchanges one ciphertext, ready for many; it writes this one column and no other.

    Its conditions are the ciphertext that was read, and the version where the table has one: a refresh, a
    reconnect or a disconnect that came between has the last word.
    """

    def __init__(self, model: type[Model], alias: str) -> None:
        self.model = model
        self.alias = alias
        self.versioned = _has_field(model, "version")
        sealed: Field[Any, Any] = model._meta.get_field("sealed_token")  # type: ignore[assignment]
        conditions: dict[str, Any] = {"pk": Slot("pk", model._meta.pk)}
        if self.versioned:
            conditions["version"] = Slot("version", model._meta.get_field("version"))  # type: ignore[arg-type]
        # The lookup itself: the column's own refuses comparisons, which are of no use with plain values.
        unchanged = Exact(F("sealed_token"), Slot("read", sealed))
        rows: QuerySet[Any] = QuerySet(model, using=alias).filter(unchanged, **conditions)
        query: Any = rows.query.chain(UpdateQuery)
        query.add_update_values({"sealed_token": Slot("anew", sealed)})
        self.sql, self.parameters = query.get_compiler(using=alias).as_sql()

    def run(self, anew: Mapping[Any, Any]) -> list[Any]:
        """Exchange what rows hold, each for its new ciphertext, and return those in which it was done.

        Belongs into a transaction, whose waits for rows it bounds. Raises OperationalError where somebody
        holds one of them.
        """
        connection = connections[self.alias]
        ordered = sorted(anew, key=lambda row: str(row.pk))  # as refreshes do: no deadlock among these
        with transaction.atomic(using=self.alias), connection.cursor() as cursor:
            sql = bounded(connection, self.sql)
            cursor.executemany(sql, [self._values(row, anew[row], connection) for row in ordered])
            return ordered if cursor.rowcount == len(ordered) else self._done(ordered, anew)

    def _values(self, row: Any, anew: Any, connection: Any) -> list[Any]:
        values = {"pk": row.pk, "read": row.sealed_token, "anew": anew}
        if self.versioned:
            values["version"] = row.version
        return filled(self.parameters, values, connection)

    def _done(self, rows: Sequence[Any], anew: Mapping[Any, Any]) -> list[Any]:
        """Find out which: each ciphertext is unlike any other."""
        found: QuerySet[Any] = QuerySet(self.model, using=self.alias)
        present = dict(found.filter(pk__in=[row.pk for row in rows]).values_list("pk", "sealed_token"))
        return [row for row in rows if present.get(row.pk) == anew[row]]


def _has_field(model: type[Model], name: str) -> bool:
    try:
        model._meta.get_field(name)
    except FieldDoesNotExist:
        return False
    return True
