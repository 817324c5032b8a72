"""Statements that the ORM builds once, because building one costs more processor time than running it.

A placeholder (``Slot``) stands for each value. Whatever the model says (columns, conditions, conversion of
values) is still the ORM's work. See docs/decisions/6-compiled-statements.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any, TypeVar

from django.db import connections
from django.db.models import AutoField, Field, Model, Q, QuerySet
from django.db.models.signals import post_save, pre_save
from django.db.models.sql import InsertQuery, UpdateQuery

from oauth_connect.stores.batch import Slot, filled
from oauth_connect.stores.transactions import is_own
from oauth_connect.tracebacks import without_locals

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL of one database, and its parameters: constants and slots."""

    sql: str
    parameters: Sequence[Any]

    @classmethod
    def of(cls, query: Any, alias: str) -> Statement:
        """Return the statement of a query that selects or updates."""
        sql, parameters = query.get_compiler(using=alias).as_sql()
        return cls(sql, tuple(parameters))

    def run(self, alias: str, values: Mapping[str, Any]) -> int:
        """Run it, and return the number of rows."""
        connection = connections[alias]
        with connection.cursor() as cursor:
            cursor.execute(self.sql, filled(self.parameters, values, connection))
            rows: int = cursor.rowcount
        return rows

    def select(self, rows: QuerySet[M], values: Mapping[str, Any]) -> list[M]:
        """Return the rows that it selects. Their expressions are attributes, as the database returns them."""
        parameters = filled(self.parameters, values, connections[rows.db])
        return list(rows.raw(self.sql, parameters))


@without_locals
def insert(row: Model, alias: str) -> None:
    """Insert a row as ``save(force_insert=True)`` does. A primary key of the database stays unknown.

    On a copied connection Django's signals are not sent. A receiver that writes, as an audit log's does, uses
    the site's own connection. On SQLite that would wait for this one, and this one for the receiver.
    """
    model = type(row)
    has_listeners = pre_save.has_listeners(model) or post_save.has_listeners(model)
    if has_listeners and not is_own(alias):
        row.save(force_insert=True, using=alias)
        return
    fields = _inserted(model)
    _insertion(model, alias).run(alias, {field.name: field.pre_save(row, add=True) for field in fields})
    row._state.adding, row._state.db = False, alias


def _inserted(model: type[Model]) -> list[Field[Any, Any]]:
    return [field for field in model._meta.local_concrete_fields if not isinstance(field, AutoField)]


@cache
def _insertion(model: type[Model], alias: str) -> Statement:
    fields = _inserted(model)
    query: Any = InsertQuery(model)
    query.insert_values(
        fields, [SimpleNamespace(**{field.attname: Slot(field.name, field) for field in fields})], raw=True
    )
    ((sql, parameters),) = query.get_compiler(using=alias).as_sql()
    return Statement(sql, tuple(parameters))


@without_locals
def update(rows: QuerySet[M], conditions: Mapping[str, Any], changes: Mapping[str, Any]) -> int:
    """Update the rows of a model for which the columns have these values, and return their number.

    ``rows``: all of the model. Values are plain ones, not expressions, and None is no condition.
    """
    values = {f"old {name}": value for name, value in conditions.items()}
    return _update(rows.model, rows.db, tuple(conditions), tuple(changes)).run(rows.db, {**values, **changes})


@cache
def _update(
    model: type[Model], alias: str, conditions: tuple[str, ...], changes: tuple[str, ...]
) -> Statement:
    fields: dict[str, Any] = {name: model._meta.get_field(name) for name in (*conditions, *changes)}
    found = Q(**{name: Slot(f"old {name}", fields[name]) for name in conditions})
    query: Any = QuerySet(model, using=alias).filter(found).query.chain(UpdateQuery)
    query.add_update_values({name: Slot(name, fields[name]) for name in changes})
    return Statement.of(query, alias)
