"""Empties the tables after a test that commits (tests/conftest.py).

Django empties all of them, and then sends ``post_migrate``, so that content types and permissions are created
again. That is most of the time of a short test. No test changes those two tables, so here they stay.
On PostgreSQL, a DELETE of a few rows is quicker than a TRUNCATE.
"""

from __future__ import annotations

from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management.color import no_style
from django.db import connections
from django.test import TransactionTestCase

KEPT = {model._meta.db_table for model in (ContentType, Permission)}


def empty_tables(case: TransactionTestCase) -> None:
    for alias in case._databases_names(include_mirrors=False):  # type: ignore[attr-defined]
        _empty(alias)
    ContentType.objects.clear_cache()


def _empty(alias: str) -> None:
    connection = connections[alias]
    present = connection.introspection.django_table_names(only_existing=True, include_views=False)
    tables = sorted(set(present) - KEPT)
    if connection.vendor == "postgresql":
        names = map(connection.ops.quote_name, tables)
        statements = ["; ".join(f"DELETE FROM {name}" for name in names)]  # noqa: S608
    else:
        statements = connection.ops.sql_flush(no_style(), tables)
    connection.ops.execute_sql_flush(statements)
