"""Distinguishes an insert that is not committed yet from a row that other connections may not see."""

from __future__ import annotations

from typing import Any

from django.db import DataError, connections, transaction
from django.db.models import BigIntegerField, QuerySet
from django.db.models.expressions import RawSQL

HALF = 2**31  # a row holds 32 bits of a transaction id; ids are compared modulo 2 ** 32
# The transaction that wrote the row, the caller's and the table.
WRITTEN = ("xmin::text::bigint", "pg_current_xact_id()::text::bigint", "tableoid::bigint")
# The count may include the session's last second. It misses no insert of this transaction. So if it is zero,
# the transaction has updated a row that was committed before.
IN_PROGRESS = """
SELECT pg_xact_status(%s::text::xid8) = 'in progress'
   AND (pg_stat_get_xact_tuples_inserted(%s::oid) > 0 OR current_setting('track_counts') = 'off')
"""


def own_insert(rows: QuerySet[Any], *, same_database: bool = False) -> bool | None:
    """Lock a row and return whether the caller's transaction has inserted it; None: it is not there.

    ``rows``: one row, which a connection outside of the transaction does not see. If it is no insert, a
    schema, a role or a policy hides it there. On MariaDB only ``USE`` hides rows in this way;
    ``same_database``: the other connection is known to use the caller's database. Raises OperationalError if
    the row was changed since the snapshot of the transaction.
    """
    try:
        with transaction.atomic(using=rows.db):
            return _own_insert(rows.select_for_update(), same_database)
    except DataError:  # PostgreSQL: an id of the future, in a row that was frozen long ago
        return False


def _own_insert(rows: QuerySet[Any], same_database: bool) -> bool | None:
    if connections[rows.db].vendor != "postgresql":
        if not rows.values_list("pk"):
            return None
        return same_database or _uses_its_own_database(connections[rows.db])
    columns = [RawSQL(sql, (), BigIntegerField()) for sql in WRITTEN]  # noqa: S611
    found = next(iter(rows.values_list(*columns)), None)
    if found is None:
        return None
    written_by, current, table = found
    # A savepoint has an id of its own, which is later than that of its transaction.
    later = (written_by - current) % (2 * HALF)
    if later >= HALF:
        return False
    with connections[rows.db].cursor() as cursor:
        cursor.execute(IN_PROGRESS, [current + later, table])
        return bool(cursor.fetchone()[0])


def _uses_its_own_database(connection: Any) -> bool:
    """Return whether no ``USE`` has moved a connection of MariaDB away from the database of its settings."""
    if connection.vendor != "mysql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT DATABASE()")
        return bool(str(cursor.fetchone()[0]).lower() == str(connection.settings_dict["NAME"]).lower())
