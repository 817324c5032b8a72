"""The number of statements of a refresh: alone, and in a run, which also writes its events in bulk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection as database
from django.db.backends.signals import connection_created

from oauth_connect.jobs.refresh import worker_pool
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.run import refresh_due
from oauth_connect.models import Connection, ConnectionEvent
from oauth_connect.stores.batch import Save
from oauth_connect.stores.writer import COMMIT_BATCH, Writer
from tests.support.waiting import TIMEOUT

pytestmark = pytest.mark.django_db(transaction=True)

ALONE = 4  # read, claim, save, history
AMONG_MANY = {"sqlite": 1.25, "postgresql": 1.25, "mysql": 2.0}


@dataclass(frozen=True)
class Statement:
    """``rows``: the number of rows of an ``executemany``."""

    sql: str
    rows: int


@contextmanager
def recorded() -> Iterator[list[Statement]]:
    """Record the statements of all threads, on open connections and on those that are opened meanwhile."""
    statements: list[Statement] = []

    def record(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append(Statement(sql, len(params) if many else 1))
        return execute(sql, params, many, context)

    def attach(connection: Any, **_: Any) -> None:
        connection.execute_wrappers.append(record)

    database.ensure_connection()
    attach(database)
    connection_created.connect(attach)
    try:
        yield statements
    finally:
        connection_created.disconnect(attach)
        database.execute_wrappers.remove(record)


def by_row(statements: list[Statement]) -> int:
    return sum(statement.rows for statement in statements)


def into_the_history(statements: list[Statement]) -> list[Statement]:
    table = ConnectionEvent._meta.db_table
    return [one for one in statements if one.sql.startswith("INSERT") and table in one.sql]


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the writer save only full batches, so that the speed of the machine has no effect."""

    def expect(saves: int) -> None:
        class Unhurried(Writer):
            left = saves
            waiting = 0

            def run(self, statement: Any) -> Any:
                self.waiting += 1
                return super().run(statement)

            def _next(self) -> Any:
                give_up = time.monotonic() + TIMEOUT
                while self._jobs.qsize() < min(COMMIT_BATCH, self.left) and time.monotonic() < give_up:
                    if self.waiting:
                        break  # for a statement nobody waits with saves
                    time.sleep(0.002)
                orders = super()._next()
                saves = [order for order in orders if isinstance(order.task, Save)]
                self.left -= len(saves)
                self.waiting -= len(orders) - len(saves)
                return orders

        monkeypatch.setattr(worker_pool, "Writer", Unhurried)

    return expect


def test_the_history_of_a_run_is_written_in_bulk(rotating, many):
    many(60)
    with recorded() as statements:
        assert len(list(refresh_due(Due()))) == 60
    assert ConnectionEvent.objects.filter(action="refreshed").count() == 60
    assert len(into_the_history(statements)) <= 3


def test_a_refresh_among_many_costs_hardly_more_than_its_save(rotating, many, unhurried):
    many(240)
    unhurried(240)
    with recorded() as statements:
        assert {result.outcome for result in refresh_due(Due())} == {"refreshed"}
    assert Connection.objects.filter(version=1).count() == 240
    assert len(into_the_history(statements)) <= 6
    assert by_row(statements) <= 240 * AMONG_MANY[database.vendor]


def test_a_refresh_alone_costs_four_statements_its_history_included(rotating, many):
    (due,) = many(1)
    with recorded() as statements:
        due.refresh()
    assert len(into_the_history(statements)) == 1
    assert by_row(statements) <= ALONE
