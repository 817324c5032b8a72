"""The database's clock: leases are set and compared by it alone, whatever the machines believe."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db.models import BigIntegerField, Func
from django.db.models.sql import Query
from django.db.models.sql.constants import SINGLE


class DatabaseMilliseconds(Func):
    """Milliseconds since the epoch, when the statement runs (not when its transaction began)."""

    output_field = BigIntegerField()
    arity = 0

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
        return self.as_sql(compiler, connection, template=template, **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint"
        return self.as_sql(compiler, connection, template=template, **context)

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # Two points in UTC: UNIX_TIMESTAMP() would read them in the session's time zone.
        template = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000"
        return self.as_sql(compiler, connection, template=template, **context)


def database_now(alias: str) -> datetime:
    """Ask a database what time it is."""
    query = Query(None)
    query.add_annotation(DatabaseMilliseconds(), "now")
    (milliseconds,) = query.get_compiler(using=alias).execute_sql(SINGLE)
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
