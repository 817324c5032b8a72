"""Leases and saves of many rows at once keep every rule of those of one."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import InterfaceError, InternalError, OperationalError, connections
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from oauth_connect.jobs.refresh.due import Due
from oauth_connect.models import Connection
from oauth_connect.stores.batch import Save, Saves, claim_due, release_claims
from oauth_connect.stores.columns import token_columns
from oauth_connect.stores.writer import Writer
from tests.faults.held import held_by_another
from tests.support.tokens import EXPIRED, rows
from tests.support.waiting import TIMEOUT

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted_provider")]

AGAIN = datetime(2100, 1, 1, tzinfo=UTC)


def claim(at_most: int = 10) -> Any:
    return claim_due(Due().of("scripted"), at_most, seconds=30, retry_at=AGAIN)


def a_save(connection: Connection, owner: str = "", version: int | None = None) -> Save:
    columns = token_columns(connection, connection.token, None)
    return Save(connection.pk, connection.version if version is None else version, owner, columns)


# --- claims ---------------------------------------------------------------------------------------


def test_the_longest_due_are_claimed_first_and_each_once(make_connection):
    due = [make_connection(age=EXPIRED + 100 * number) for number in range(5)]
    first, second, third = claim(2), claim(2), claim(2)
    pks = [[one.row.pk for one in catch.claimed] for catch in (first, second, third)]
    assert pks == [[due[4].pk, due[3].pk], [due[2].pk, due[1].pk], [due[0].pk]]
    assert [first.exhausted, second.exhausted, third.exhausted] == [False, False, True]
    assert claim().claimed == []


@pytest.mark.vendor("postgresql", "mysql")
def test_a_claim_looks_for_rows_by_a_condition_once_and_locks_no_others(make_connection):
    """MariaDB would lock what stands beside them in the index, and meet those that are being saved."""
    for number in range(3):
        make_connection(age=EXPIRED + number)
    with CaptureQueriesContext(database) as captured:
        assert len(claim().claimed) == 3
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
        assert len(claim().claimed) == 1
    assert len(victims) == 1


def test_a_claim_takes_the_lease_by_the_databases_clock_and_is_no_longer_due(make_connection):
    connection = make_connection(age=EXPIRED)
    (claimed,) = claim().claimed
    row = rows().get(pk=connection.pk)
    assert row.lease_owner == claimed.owner == claimed.row.lease_owner != ""
    assert 20_000 < row.lease_until - time.time() * 1000 < 40_000
    assert row.refresh_at == AGAIN
    assert claimed.due_at == connection.refresh_at
    assert (row.version, row.in_doubt) == (connection.version, False)


def test_a_living_lease_is_respected_and_one_that_ran_out_leaves_a_doubt(make_connection):
    living, dead = make_connection(age=EXPIRED), make_connection(age=EXPIRED)
    later = int((time.time() + 60) * 1000)
    rows().filter(pk=living.pk).update(lease_owner="another", lease_until=later)
    rows().filter(pk=dead.pk).update(lease_owner="killed", lease_until=1)
    (claimed,) = claim().claimed
    assert claimed.row.pk == dead.pk
    assert claimed.row.in_doubt


def test_claims_at_the_same_time_share_what_is_due(make_connection, calls_at_once):
    for _ in range(30):
        make_connection(age=EXPIRED)
    catches = calls_at_once(3, lambda: [one.row.pk for one in claim(10).claimed])
    assert all(isinstance(catch, list) for catch in catches), catches
    taken = [pk for catch in catches for pk in catch]
    assert len(set(taken)) == len(taken)
    while rest := claim(10).claimed:
        taken += [one.row.pk for one in rest]
    assert len(set(taken)) == len(taken) == 30


def test_put_back_is_due_as_before_unless_the_token_has_changed(make_connection):
    same, changed, lost = (make_connection(age=EXPIRED) for _ in range(3))
    claimed = claim().claimed
    rows().filter(pk=changed.pk).update(version=7)
    rows().filter(pk=lost.pk).update(lease_owner="another")
    release_claims(claimed)
    values = {row.pk: (row.lease_owner, row.refresh_at) for row in rows().all()}
    assert values[same.pk] == ("", same.refresh_at)
    assert values[changed.pk] == ("", AGAIN)
    assert values[lost.pk] == ("another", AGAIN)


def test_a_claim_is_three_statements_however_many_rows(make_connection):
    for _ in range(7):
        make_connection(age=EXPIRED)
    due = Due().of("scripted")
    with CaptureQueriesContext(database) as queries:
        claim_due(due, 7, seconds=30, retry_at=AGAIN)
    statements = [query["sql"].split()[0] for query in queries]
    assert [word for word in statements if word not in {"BEGIN", "COMMIT"}] == ["SELECT", "UPDATE", "SELECT"]


# --- saves ----------------------------------------------------------------------------------------


def test_saves_go_together_or_not_at_all(make_connection):
    one, other = make_connection(), make_connection()
    statement = Saves(Connection, "default")
    assert not statement.run([a_save(one), a_save(other, version=5)])
    assert list(rows().values_list("version", flat=True)) == [0, 0]
    assert statement.run([a_save(one), a_save(other)])
    assert list(rows().values_list("version", flat=True)) == [1, 1]


def test_a_save_releases_only_its_owners_lease(make_connection):
    mine, anothers = make_connection(), make_connection()
    rows().filter(pk=mine.pk).update(lease_owner="me")
    rows().filter(pk=anothers.pk).update(lease_owner="another")
    Saves(Connection, "default").run([a_save(mine, "me"), a_save(anothers, "me")])
    assert rows().get(pk=mine.pk).lease_owner == ""
    assert rows().get(pk=anothers.pk).lease_owner == "another"


def test_a_save_ends_failure_doubt_and_a_mark(make_connection):
    connection = make_connection()
    ill = {"status": "reauthorization_required", "last_error": "revoked", "failures": 3, "in_doubt": True}
    rows().filter(pk=connection.pk).update(**ill)
    Saves(Connection, "default").run([a_save(connection)])
    row = rows().get(pk=connection.pk)
    assert (row.status, row.last_error, row.failures, row.in_doubt) == ("active", "", 0, False)
    assert row.token == connection.token


# --- the writer -----------------------------------------------------------------------------------


class Answers(queue.SimpleQueue[tuple[Any, BaseException | None]]):
    """What a writer answers, in the order in which it does."""

    def __call__(self, result: Any, error: BaseException | None) -> None:
        self.put((result, error))


def saved(writer: Writer, save: Save) -> bool:
    """Save through the writer, and wait for what it answers."""
    answered: Future[bool] = Future()

    def answer(result: Any, error: BaseException | None) -> None:
        if error is None:
            answered.set_result(result)
        else:
            answered.set_exception(error)

    writer.save_soon(save, answer)
    return answered.result(timeout=TIMEOUT)


def test_one_save_that_fails_is_reported_and_the_others_are_saved(make_connection, calls_at_once):
    fits = [make_connection() for _ in range(5)]
    stale = make_connection()
    with Writer(Connection, "default") as writer:
        saves = iter([*(a_save(one) for one in fits), a_save(stale, version=9)])
        orders = list(saves)
        results = calls_at_once(6, lambda: saved(writer, orders.pop()))
    assert sorted(results) == [False, True, True, True, True, True]
    assert rows().filter(version=1).count() == 5


@pytest.mark.vendor("postgresql", "mysql")  # SQLite has one lock for the whole file
def test_a_row_that_is_locked_does_not_hold_up_the_others(make_connection, calls_at_once):
    free, held = make_connection(), make_connection()
    orders = [a_save(free), a_save(held)]
    with held_by_another(held), Writer(Connection, "default") as writer:
        results = calls_at_once(2, lambda: saved(writer, orders.pop()))
        assert rows().get(pk=free.pk).version == 1
    assert [result for result in results if result is True] == [True]
    assert rows().get(pk=held.pk).version == 0


def test_an_error_of_a_statement_reaches_its_caller_and_the_writer_continues(make_connection):
    def fail() -> None:
        raise ValueError("of the one who ordered it")

    with Writer(Connection, "default") as writer:
        with pytest.raises(ValueError, match="of the one who ordered it"):
            writer.run(fail)
        assert writer.run(lambda: 5) == 5


@pytest.mark.parametrize("error", [InterfaceError("connection already closed"), ValueError("a fault")])
def test_saves_that_cannot_go_together_are_saved_one_by_one_whatever_the_reason(
    make_connection, monkeypatch, error
):
    save = Saves.run

    def one_at_a_time(self: Saves, saves: Any) -> bool:
        if len(saves) > 1:
            raise error
        return save(self, saves)

    monkeypatch.setattr(Saves, "run", one_at_a_time)
    busy, answered = threading.Event(), Answers()
    with Writer(Connection, "default") as writer:
        waiting = threading.Thread(target=writer.run, args=(lambda: busy.wait(TIMEOUT),))
        waiting.start()
        for _ in range(3):
            writer.save_soon(a_save(make_connection()), answered)
        busy.set()
        waiting.join()
        assert [answered.get(timeout=TIMEOUT) for _ in range(3)] == [(True, None)] * 3


def test_an_answer_that_fails_does_not_end_the_writer(make_connection, caplog):
    def fail(*_: Any) -> None:
        raise ValueError("of the one who was told")

    answered = Answers()
    with Writer(Connection, "default") as writer:
        writer.save_soon(a_save(make_connection()), fail)
        writer.save_soon(a_save(make_connection()), answered)
        assert answered.get(timeout=TIMEOUT) == (True, None)
    assert {getattr(record, "action", "") for record in caplog.records} == {"refresh_crashed"}


@pytest.mark.vendor("postgresql")
def test_a_host_that_has_become_read_only_is_left_for_the_one_that_writes(make_connection):
    def failed_over() -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = on")

    connection = make_connection()
    with Writer(Connection, "default") as writer:
        writer.run(failed_over)
        with pytest.raises(InternalError):
            saved(writer, a_save(connection))
        assert saved(writer, a_save(connection))


def test_the_writer_closes_its_database_connection(make_connection):
    with Writer(Connection, "default") as writer:
        used = writer.run(lambda: connections["default"])
        writer.run(lambda: rows().count())
        assert used.connection is not None
    assert used.connection is None


def test_due_again(make_connection):
    """What a dead worker had claimed is due again when its lease has run out."""
    make_connection(age=EXPIRED)
    soon = datetime.now(UTC) + timedelta(hours=1)
    claim_due(Due().of("scripted"), 1, seconds=30, retry_at=soon)
    assert not Due().of("scripted").exists()
    assert Due(within=timedelta(hours=1, seconds=1)).of("scripted").exists()
