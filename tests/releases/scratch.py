"""A database that is migrated from one release to the next, beside the databases of the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from oauth_connect.models.fields import SealedField
from tests.support.databases import run_name

ALIAS = "scratch"
APP = "oauth_connect"


class Everything:
    """A database router: all models live in the scratch database."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return ALIAS

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return ALIAS


@contextmanager
def scratch_database(folder: Path) -> Iterator[None]:
    """An empty database on the server of the run, known by the alias ``scratch``."""
    on_a_server = connections["default"].vendor != "sqlite"
    name = f"test_{run_name()}_scratch" if on_a_server else str(folder / "scratch.sqlite3")
    quoted = connections["default"].ops.quote_name(name)
    if on_a_server:
        _run(f"CREATE DATABASE {quoted}")
    connections.databases[ALIAS] = {**connections["default"].settings_dict, "NAME": name}
    try:
        yield
    finally:
        connections[ALIAS].close()
        del connections[ALIAS]
        del connections.databases[ALIAS]
        if on_a_server:
            _run(f"DROP DATABASE {quoted}")


def _run(statement: str) -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute(statement)


def migrate_to(migration: str) -> Any:
    """Migrate the app to a migration of its own, and return the models as they were then."""
    executor = MigrationExecutor(connections[ALIAS])
    return executor.migrate([(APP, migration)]).apps


def migrate_to_the_newest() -> None:
    call_command("migrate", database=ALIAS, verbosity=0)


def columns_of(model: Any) -> set[str]:
    """What the table really has."""
    with connections[ALIAS].cursor() as cursor:
        found = connections[ALIAS].introspection.get_table_description(cursor, model._meta.db_table)
    return {column.name for column in found}


def insert(model: Any, row: dict[str, Any]) -> None:
    """Write a row as the release wrote it: plain SQL, and the ciphertext byte by byte."""
    connection = connections[ALIAS]
    fields = {field.column: field for field in model._meta.concrete_fields}
    names = ", ".join(connection.ops.quote_name(column) for column in row)
    places = ", ".join(["%s"] * len(row))
    values = [_value(fields[column], value) for column, value in row.items()]
    table = connection.ops.quote_name(model._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", values)  # noqa: S608


def _value(field: Any, value: Any) -> Any:
    connection = connections[ALIAS]
    if isinstance(field, SealedField):
        return None if value is None else connection.Database.Binary(value.encode("ascii"))
    return field.get_db_prep_save(field.to_python(value), connection)
