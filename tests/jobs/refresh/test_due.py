"""The index finds the due rows, whether few or many are due."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.db.models import QuerySet

from oauth_connect.jobs.refresh.due import INDEX, Due
from oauth_connect.models import Connection
from oauth_connect.models.fields import Sealed
from oauth_connect.stores.batch import claim_due

pytestmark = pytest.mark.django_db(transaction=True)

ROWS = 10_000
SEALED = Sealed("0" * 800)  # never opened here
QUESTION = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN ", "mysql": "EXPLAIN "}


@pytest.fixture
def many_rows() -> None:
    """Store rows of which one becomes due every minute. Ten are due already."""
    first = datetime.now(UTC) - timedelta(minutes=ROWS // 1000)
    Connection.objects.bulk_create(
        [
            Connection(
                owner=f"user:{number}",
                provider="acme",
                identity=f"{number:064}",
                sealed_token=SEALED,
                # In no order, as in production.
                refresh_at=first + timedelta(minutes=number * 7919 % ROWS),
            )
            for number in range(ROWS)
        ],
        batch_size=500,
    )
    analyze()


def analyze() -> None:
    table = "TABLE " if database.vendor == "mysql" else ""
    with database.cursor() as cursor:
        cursor.execute(f"ANALYZE {table}{Connection._meta.db_table}")


@pytest.mark.parametrize(("within", "due"), [(0, 0.001), (0.299 * ROWS, 0.3)], ids=["few due", "many due"])
@pytest.mark.usefixtures("many_rows")
def test_the_next_rows_are_found_by_the_index(within, due):
    chosen = Due(["acme"], timedelta(minutes=within))
    assert chosen.of("acme").count() == pytest.approx(due * ROWS, abs=10)
    for read in (lambda: next(chosen.connections("acme")), lambda: claim_some(chosen.of("acme"))):
        sql, parameters = what_is_selected(read)
        assert "oauth_connect_due" in " ".join(indexes_used(sql, parameters))


@pytest.mark.vendor("mysql")
@pytest.mark.usefixtures("many_rows")
def test_after_an_outage_rows_that_are_never_due_are_not_read():
    """Tokens that do not expire, and connections that have ended, come first in the index."""
    QuerySet(Connection).filter(identity__regex="[0-5]$").update(refresh_at=None)
    analyze()
    due = Due(["acme"], timedelta(minutes=0.9 * ROWS))
    with database.cursor() as cursor:
        before = entries_tried(cursor)
        claim_due(due.of("acme"), 500, seconds=60, retry_at=datetime.now(UTC), index=due.index)
        assert entries_tried(cursor) - before < 2000


def entries_tried(cursor: Any) -> int:
    cursor.execute("SHOW SESSION STATUS LIKE 'Handler_icp_attempts'")
    return int(cursor.fetchone()[1])


def claim_some(rows: Any) -> None:
    claim_due(rows, 500, seconds=60, retry_at=datetime.now(UTC), index=INDEX)


def what_is_selected(read: Callable[[], object]) -> tuple[str, Any]:
    """Return the first statement that reads rows, with its parameters."""
    seen: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append((sql, params))
        return execute(sql, params, many, context)

    with database.execute_wrapper(note):
        read()
    return next(statement for statement in seen if statement[0].startswith("SELECT"))


def indexes_used(sql: str, parameters: Any) -> Iterator[str]:
    """Yield the indexes that the database uses for a statement."""
    with database.cursor() as cursor:
        cursor.execute(QUESTION[database.vendor] + sql, parameters)
        names = [column[0] for column in cursor.description]
        for line in cursor.fetchall():
            # MariaDB also lists indexes that it could use.
            yield str(line[names.index("key")] if "key" in names else line[-1])
