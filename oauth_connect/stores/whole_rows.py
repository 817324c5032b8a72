"""Reads whole rows with a SELECT that is built once.

Django compiles every query again. For the columns of a connection, that takes several times as long as the
database needs to find the row. Here only the parameters change from one query to the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast

from django.db import connections
from django.db.models import Field, Model

from oauth_connect.tracebacks import without_locals

M = TypeVar("M", bound=Model)
CONVERTERS = "_oauth_connect_converters"  # of a database connection: those of each model


@dataclass(frozen=True)
class _Select:
    """The SELECT of all columns of a model."""

    sql: str
    names: tuple[str, ...]
    columns: tuple[Any, ...]


@cache
def _select(model: type[Model], alias: str, vendor: str) -> _Select:
    """Return the query. It is the same for all connections to a database, which has one ``vendor``."""
    fields: Iterable[Any] = model._meta.concrete_fields
    table, quoted = model._meta.db_table, connections[alias].ops.quote_name
    # Without the table's name before each column: a shorter text is also quicker to send and to parse.
    names = ", ".join(quoted(field.column) for field in fields)
    sql = f"SELECT {names} FROM {quoted(table)}"  # noqa: S608  (names of the model)
    return _Select(
        sql, tuple(field.attname for field in fields), tuple(field.get_col(table) for field in fields)
    )


def has_own_table(model: type[Model]) -> bool:
    """Return whether all columns are in one table: not those of a multi-table child."""
    return not any(model._meta.parents.values())


@without_locals
def rows_where(model: type[M], alias: str, **values: Any) -> list[M]:
    """Return the rows whose columns have these values, as ``filter(**values)`` does; one query.

    ``values``: by the names of fields of the model's own table; None finds NULL. Every row is whole.
    """
    connection: Any = connections[alias]
    select = _select(model, alias, connection.vendor)
    conditions, parameters = _where(model, connection, values)
    with connection.cursor() as cursor:
        cursor.execute(f"{select.sql} WHERE {conditions}", parameters)
        found = cursor.fetchall()
    return [_row(model, alias, select, row) for row in found]


def _where(model: type[Model], connection: Any, values: dict[str, Any]) -> tuple[str, list[Any]]:
    conditions, parameters = [], []
    for name, value in values.items():
        field = cast("Field[Any, Any]", model._meta.get_field(name))
        column = connection.ops.quote_name(field.column)
        if value is None:
            conditions.append(f"{column} IS NULL")
        else:
            conditions.append(f"{column} = %s")
            parameters.append(field.get_db_prep_value(value, connection))
    return " AND ".join(conditions), parameters


def _row(model: type[M], alias: str, select: _Select, row: Iterable[Any]) -> M:
    connection: Any = connections[alias]
    values = list(row)
    for index, convert in _converters(model, connection, select):
        values[index] = convert(values[index], select.columns[index], connection)
    return model.from_db(alias, select.names, values)


def _converters(model: type[Model], connection: Any, select: _Select) -> list[tuple[int, Any]]:
    """Return the converters, each with the index of its column. They belong to a connection."""
    kept: dict[type[Model], list[tuple[int, Any]]] = connection.__dict__.setdefault(CONVERTERS, {})
    if model not in kept:
        kept[model] = [
            (index, convert)
            for index, column in enumerate(select.columns)
            for convert in (*connection.ops.get_db_converters(column), *column.get_db_converters(connection))
        ]
    return kept[model]
