"""Claims and saves of many rows follow the same rules as those of one row."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from oauth_connect.jobs.refresh.due import Due
from oauth_connect.models import Connection
from oauth_connect.stores.batch import (
    Claimed,
    Leases,
    Save,
    Saves,
    claim_due,
    free_hidden,
    read_claimed,
    release_claims,
)
from oauth_connect.stores.columns import token_columns
from tests.faults.held import held_by_another
from tests.support.tokens import EXPIRED, rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted_provider")]

AGAIN = datetime(2100, 1, 1, tzinfo=UTC)


def claim(at_most: int = 10) -> Any:
    return all_of(claim_due(Due().of("scripted"), at_most, seconds=30, retry_at=AGAIN))


def all_of(leases: Leases) -> list[Claimed]:
    return read_claimed(leases, leases.due_at)


def a_save(connection: Connection, owner: str = "", version: int | None = None) -> Save:
    columns = token_columns(connection, connection.token, None)
    return Save(connection.pk, connection.version if version is None else version, owner, columns)


# --- claims ---------------------------------------------------------------------------------------


def test_the_longest_due_are_claimed_first_and_each_once(make_connection):
    due = [make_connection(age=EXPIRED + 100 * number) for number in range(5)]
    leases = [claim_due(Due().of("scripted"), 2, seconds=30, retry_at=AGAIN) for _ in range(3)]
    pks = [[one.row.pk for one in all_of(one_claim)] for one_claim in leases]
    assert pks == [[due[4].pk, due[3].pk], [due[2].pk, due[1].pk], [due[0].pk]]
    assert [one_claim.count for one_claim in leases] == [2, 2, 1]
    assert [one_claim.exhausted for one_claim in leases] == [False, False, True]
    assert claim() == []


@pytest.mark.vendor("postgresql", "mysql")
def test_a_claim_looks_for_rows_by_a_condition_once_and_locks_no_others(make_connection):
    """MariaDB would lock what stands beside them in the index, and meet those that are being saved."""
    for number in range(3):
        make_connection(age=EXPIRED + number)
    with CaptureQueriesContext(database) as captured:
        assert len(claim()) == 3
    (update,) = [query["sql"] for query in captured if query["sql"].startswith("UPDATE")]
    assert "provider" not in update.partition(" WHERE ")[2]


def test_a_claim_that_is_the_victim_of_a_deadlock_is_made_again(make_connection):
    make_connection(age=EXPIRED)
    victims = []

    def once(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith("UPDATE") and not victims:
            victims.append(sql)
            raise OperationalError(1213, "Deadlock found when trying to get lock")
        return execute(sql, *rest)

    with database.execute_wrapper(once):
        assert len(claim()) == 1
    assert len(victims) == 1


def test_a_claim_takes_the_lease_by_the_databases_clock_and_is_no_longer_due(make_connection):
    connection = make_connection(age=EXPIRED)
    before = time.time()
    (claimed,) = claim()
    after = time.time()
    row = rows().get(pk=connection.pk)
    assert row.lease_owner == claimed.owner == claimed.row.lease_owner != ""
    assert before + 30 - 1 < row.lease_until / 1000 < after + 30 + 1
    assert row.refresh_at == AGAIN
    assert claimed.due_at == connection.refresh_at
    assert (row.version, row.in_doubt) == (connection.version, False)


def test_a_valid_lease_is_respected_and_an_expired_one_leaves_a_doubt(make_connection):
    living, dead = make_connection(age=EXPIRED), make_connection(age=EXPIRED)
    later = int((time.time() + 60) * 1000)
    rows().filter(pk=living.pk).update(lease_owner="another", lease_until=later)
    rows().filter(pk=dead.pk).update(lease_owner="killed", lease_until=1)
    (claimed,) = claim()
    assert claimed.row.pk == dead.pk
    assert claimed.row.in_doubt


def test_claims_at_the_same_time_share_what_is_due(make_connection, calls_at_once):
    for _ in range(30):
        make_connection(age=EXPIRED)
    catches = calls_at_once(3, lambda: [one.row.pk for one in claim(10)])
    assert all(isinstance(catch, list) for catch in catches), catches
    taken = [pk for catch in catches for pk in catch]
    assert len(set(taken)) == len(taken)
    while rest := claim(10):
        taken += [one.row.pk for one in rest]
    assert len(set(taken)) == len(taken) == 30


def test_a_released_row_is_due_as_before_unless_the_token_has_changed(make_connection):
    same, changed, lost = (make_connection(age=EXPIRED) for _ in range(3))
    claimed = claim()
    rows().filter(pk=changed.pk).update(version=7)
    rows().filter(pk=lost.pk).update(lease_owner="another")
    release_claims(claimed)
    values = {row.pk: (row.lease_owner, row.refresh_at) for row in rows().all()}
    assert values[same.pk] == ("", same.refresh_at)
    assert values[changed.pk] == ("", AGAIN)
    assert values[lost.pk] == ("another", AGAIN)


@pytest.mark.vendor("postgresql", "mysql")  # SQLite has one lock for the whole file
def test_a_hidden_row_that_is_locked_keeps_its_lease_until_it_expires(make_connection):
    connection = make_connection(age=EXPIRED)
    leases = claim_due(Due().of("scripted"), 10, seconds=30, retry_at=AGAIN)
    with held_by_another(connection):
        assert free_hidden(leases, ()) == 1
    assert rows().get(pk=connection.pk).lease_owner == leases.owner
    assert free_hidden(leases, ()) == 1
    assert free_hidden(leases, ()) == 0
    row = rows().get(pk=connection.pk)
    assert (row.lease_owner, row.refresh_at) == ("", connection.refresh_at)


def test_a_claim_is_three_statements_however_many_rows(make_connection):
    for _ in range(7):
        make_connection(age=EXPIRED)
    due = Due().of("scripted")
    with CaptureQueriesContext(database) as queries:
        all_of(claim_due(due, 7, seconds=30, retry_at=AGAIN))
    statements = [query["sql"].split()[0] for query in queries]
    assert [word for word in statements if word not in {"BEGIN", "COMMIT"}] == ["SELECT", "UPDATE", "SELECT"]


@pytest.mark.vendor("postgresql")
def test_the_limits_of_a_batch_of_saves_are_one_statement(make_connection):
    """The writer waits for the interpreter after each statement, and all workers use it."""
    saves = [a_save(make_connection(age=EXPIRED)) for _ in range(3)]
    statement = Saves(Connection, "default")
    with CaptureQueriesContext(database) as queries:
        assert statement.run(saves)
    limits = [query["sql"] for query in queries if "_timeout" in query["sql"]]
    assert len(limits) == 1
    assert ("lock_timeout" in limits[0], "statement_timeout" in limits[0]) == (True, True)


def test_a_claimed_row_is_due_again_after_its_lease(make_connection):
    """A row that a dead worker had claimed is due again when the lease has expired."""
    make_connection(age=EXPIRED)
    soon = datetime.now(UTC) + timedelta(hours=1)
    claim_due(Due().of("scripted"), 1, seconds=30, retry_at=soon)
    assert not Due().of("scripted").exists()
    assert Due(within=timedelta(hours=1, seconds=1)).of("scripted").exists()


# --- saves ----------------------------------------------------------------------------------------


def test_saves_of_a_batch_are_all_written_or_none(make_connection):
    one, other = make_connection(), make_connection()
    statement = Saves(Connection, "default")
    assert not statement.run([a_save(one), a_save(other, version=5)])
    assert list(rows().values_list("version", flat=True)) == [0, 0]
    assert statement.run([a_save(one), a_save(other)])
    assert list(rows().values_list("version", flat=True)) == [1, 1]


def test_a_save_releases_only_its_owners_lease(make_connection):
    mine, foreign = make_connection(), make_connection()
    rows().filter(pk=mine.pk).update(lease_owner="me")
    rows().filter(pk=foreign.pk).update(lease_owner="another")
    Saves(Connection, "default").run([a_save(mine, "me"), a_save(foreign, "me")])
    assert rows().get(pk=mine.pk).lease_owner == ""
    assert rows().get(pk=foreign.pk).lease_owner == "another"


def test_a_save_ends_failure_doubt_and_a_mark(make_connection):
    connection = make_connection()
    failing = {"status": "reauthorization_required", "last_error": "revoked", "failures": 3, "in_doubt": True}
    rows().filter(pk=connection.pk).update(**failing)
    Saves(Connection, "default").run([a_save(connection)])
    row = rows().get(pk=connection.pk)
    assert (row.status, row.last_error, row.failures, row.in_doubt) == ("active", "", 0, False)
    assert row.token == connection.token
