"""The next 500 due of very many: selected and claimed, beside the query of the same rows alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import QuerySet

from benchmarks import rows as table
from benchmarks.authority import Authority
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.models import Connection
from oauth_connect.stores import batch
from oauth_connect.stores.columns import token_columns

SLUG = "bench"
USERS = 1000
ACCESS_TOKEN_LENGTH = 340  # sealed with the rest it is some 800 characters
AT_ONCE = 500
LEASE = 60.0
A_ROUND = 4
PRIME = 2_147_483_659  # larger than a 32 bit integer: what it multiplies gets 64
# A row falls due each minute; this share of them is overdue, or will be within some months.
FEW, MANY = 0.001, 0.3

TEXT = {"sqlite": "CAST({} AS text)", "postgresql": "CAST({} AS text)", "mysql": "CAST({} AS char)"}
KEY = {
    "sqlite": "{0}",
    "postgresql": "CAST({0} AS uuid)",
    # MariaDB asks of a UUID that its version and variant are known ones.
    "mysql": "CONCAT(SUBSTR({0}, 1, 12), '4', SUBSTR({0}, 14, 3), '8', SUBSTR({0}, 18))",
}
LATER = {
    "sqlite": "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', {}, {} || ' minutes')",
    "postgresql": "CAST({} AS timestamptz) + {} * interval '1 minute'",
    "mysql": "DATE_ADD({}, INTERVAL {} MINUTE)",
}
EXPLAIN = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN ", "mysql": "EXPLAIN "}


def measure(_: Authority, *, rounds: int, rows: int, **__: Any) -> Any:
    fill(rows)
    try:
        shares = {"few": timedelta(0), "many": timedelta(minutes=(MANY - FEW) * rows)}
        return [
            {"rows": rows, "due": name, **in_turn(Due([SLUG], within), rounds * A_ROUND)}
            for name, within in shares.items()
        ]
    finally:
        table.empty(Connection)


def in_turn(due: Due, repetitions: int) -> dict[str, Any]:
    """Milliseconds of both, their ratio each time, and the plan of the statement that selects."""
    query, claim, ratios = [], [], []
    for number in range(-1, repetitions):
        found, asked = timed(lambda: list(due.of(SLUG).order_by("refresh_at", "pk")[:AT_ONCE]))
        claimed, took = timed(lambda: next_of(due))
        with transaction.atomic():
            batch.release_claims(claimed)
        if [row.pk for row in found] != [one.row.pk for one in claimed]:
            raise AssertionError("it did not claim what the query found")
        if number >= 0:  # the first time fills caches
            query.append(asked)
            claim.append(took)
            ratios.append(took / asked)
    overdue = due.of(SLUG).count()
    return {
        "number_due": overdue,
        "query": median(query),
        "claim": median(claim),
        "ratio": median(ratios),
        "plan": plan(due),
    }


def next_of(due: Due) -> list[batch.Claimed]:
    again = due.horizon + timedelta(seconds=LEASE)
    leases = batch.claim_due(due.of(SLUG), AT_ONCE, seconds=LEASE, retry_at=again, index=due.index)
    return batch.read_claimed(leases, leases.due_at)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = work()
    return result, (time.perf_counter() - started) * 1000


def plan(due: Due) -> list[str]:
    """Return how the database goes about the first statement of a claim, in its own words."""
    with statements() as seen:
        claimed = next_of(due)
    batch.release_claims(claimed)
    sql, parameters = next(one for one in seen if one[0].startswith("SELECT"))
    with connection.cursor() as cursor:
        cursor.execute(EXPLAIN[connection.vendor] + sql, parameters)
        return [" ".join(str(value) for value in line if value is not None) for line in cursor.fetchall()]


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    seen: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield seen


def fill(count: int) -> None:
    """Store so many connections, of a thousand users, their tokens as wide as usual; never to be opened."""
    table.connections(1)
    table.enough_users(USERS)
    template = Connection.objects.get()
    token = replace(template.token, access_token=template.token.access_token[:ACCESS_TOKEN_LENGTH])
    QuerySet(Connection).update(**token_columns(template, token, None))
    first = datetime.now(UTC) - timedelta(minutes=FEW * count)
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":  # its two megabytes of cache, and four indexes in no order
            cursor.execute("PRAGMA cache_size = -1000000")
        cursor.execute(*multiplied(count, first))
    connection.close()  # what is measured has the cache that everybody has
    Connection.objects.filter(pk=template.pk).delete()
    table.analyze(Connection)


def multiplied(count: int, first: datetime) -> tuple[str, list[Any]]:
    """Return the statement that makes of one row many, which fall due a minute apart, in no order."""
    vendor, name = connection.vendor, connection.ops.quote_name
    digits = range(len(str(count - 1)))
    ten = " UNION ALL ".join(f"SELECT {digit} AS digit" for digit in range(10))
    number = "(" + " + ".join(f"{10**place} * d{place}.digit" for place in digits) + ")"
    hashed = f"MD5({TEXT[vendor].format('numbers.n')})"
    due_at = LATER[vendor].format("%s", f"(numbers.n * {PRIME} %% {count})")
    moment = connection.ops.adapt_datetimefield_value(first)
    changed = {
        "id": (KEY[vendor].format(hashed), []),
        "identity": (f"RPAD({hashed}, 64, '0')", []),
        "owner": (hashed, []),
        "account_id": (hashed, []),
        "user_id": ("people.id", []),
        "connected_by_id": ("people.id", []),
        "refresh_at": (due_at, [moment]),
        "expires_at": (due_at, [moment]),
    }
    columns = [field.column for field in Connection._meta.concrete_fields]
    values = [changed.get(column, (f"template.{name(column)}", [])) for column in columns]
    sql = f"""
        INSERT INTO {name(Connection._meta.db_table)} ({", ".join(map(name, columns))})
        SELECT {", ".join(value for value, _ in values)}
        FROM {name(Connection._meta.db_table)} template,
             (SELECT {number} AS n FROM {", ".join(f"({ten}) d{place}" for place in digits)}) numbers
        JOIN (SELECT id, ROW_NUMBER() OVER (ORDER BY id) - 1 AS place
              FROM {name(User._meta.db_table)} ORDER BY id LIMIT {USERS}) people
          ON people.place = numbers.n %% {USERS}
        WHERE numbers.n < {count}
    """
    return sql, [parameter for _, parameters in values for parameter in parameters]
