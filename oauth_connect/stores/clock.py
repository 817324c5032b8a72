"""Reads the database's clock. Leases use only this clock, because the clocks of machines differ."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db.models import BigIntegerField, Func
from django.db.models.sql import Query
from django.db.models.sql.constants import SINGLE


class DatabaseMilliseconds(Func):
    """Milliseconds since the epoch, at the time of the statement (not of its transaction's start)."""

    output_field = BigIntegerField()
    arity = 0

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
        return self.as_sql(compiler, connection, template=template, **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint"
        return self.as_sql(compiler, connection, template=template, **context)

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # Both timestamps are UTC. UNIX_TIMESTAMP() would use the session's time zone.
        template = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000"
        return self.as_sql(compiler, connection, template=template, **context)


def database_now(alias: str) -> datetime:
    """Return the current time of a database's clock."""
    query = Query(None)
    query.add_annotation(DatabaseMilliseconds(), "now")
    (milliseconds,) = query.get_compiler(using=alias).execute_sql(SINGLE)
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
