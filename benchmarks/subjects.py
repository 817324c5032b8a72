"""All that is measured, on the database of the settings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from django.db import connection

from benchmarks.authority import running

# What is measured on each database, in this order. `imports` needs none.
NAMES = ("held_call", "first_call", "callback", "expiry", "bulk", "memory", "due", "loaded")
# How far a commit reaches, in each database's own words.
DURABILITY = {
    "sqlite": ("PRAGMA journal_mode", "PRAGMA synchronous"),
    "postgresql": ("SHOW fsync", "SHOW synchronous_commit"),
    "mysql": ("SELECT @@innodb_flush_log_at_trx_commit", "SELECT @@sync_binlog"),
}


def measured(**options: Any) -> dict[str, Any]:
    """Return the figures of the subjects that `only` names; children attach to the database by its name."""
    with database(), running() as authority:
        found: dict[str, Any] = {"about": about()}
        for name in options["only"]:
            print(f"{connection.vendor}: {name} ...", file=sys.stderr, flush=True)
            # When it is its turn: a subject imports models.
            found[name] = import_module(f"benchmarks.{name}").measure(authority, **options)
        return found


@contextmanager
def database() -> Iterator[None]:
    """A test database, for as long as this lasts."""
    before = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield
    finally:
        connection.creation.destroy_test_db(before, verbosity=0)


def about() -> dict[str, Any]:
    questions = DURABILITY[connection.vendor]
    return {
        "version": ".".join(map(str, connection.get_database_version())),
        "durability": {question.split(" ", 1)[1]: asked(question) for question in questions},
    }


def asked(question: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(question)
        return str(cursor.fetchone()[0])
