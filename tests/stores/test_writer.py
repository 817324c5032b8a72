"""The writer thread saves for all worker threads, and survives the failure of any save."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from typing import Any

import pytest
from django.db import InterfaceError, InternalError, connections

from oauth_connect.models import Connection
from oauth_connect.stores.batch import Save, Saves
from oauth_connect.stores.connection_state import NOTHING
from oauth_connect.stores.writer import Writer
from tests.faults.held import held_by_another
from tests.stores.test_batch import a_save
from tests.support.tokens import rows
from tests.support.waiting import TIMEOUT

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted_provider")]


class Results(queue.SimpleQueue[tuple[Any, BaseException | None]]):
    """The results of a writer, in their order."""

    def __call__(self, result: Any, error: BaseException | None) -> None:
        self.put((result, error))


def saved(writer: Writer, save: Save) -> bool:
    """Save with the writer, and wait for its result."""
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
    with Writer(Connection, "default", NOTHING) as writer:
        saves = iter([*(a_save(one) for one in fits), a_save(stale, version=9)])
        orders = list(saves)
        results = calls_at_once(6, lambda: saved(writer, orders.pop()))
    assert sorted(results) == [False, True, True, True, True, True]
    assert rows().filter(version=1).count() == 5


@pytest.mark.vendor("postgresql", "mysql")  # SQLite has one lock for the whole file
def test_a_locked_row_does_not_block_the_saves_of_others(make_connection, calls_at_once):
    free, held = make_connection(), make_connection()
    orders = [a_save(free), a_save(held)]
    with held_by_another(held), Writer(Connection, "default", NOTHING) as writer:
        results = calls_at_once(2, lambda: saved(writer, orders.pop()))
        assert rows().get(pk=free.pk).version == 1
    assert [result for result in results if result is True] == [True]
    assert rows().get(pk=held.pk).version == 0


def test_an_error_of_a_statement_reaches_its_caller_and_the_writer_continues(make_connection):
    def fail() -> None:
        raise ValueError("of the caller")

    with Writer(Connection, "default", NOTHING) as writer:
        with pytest.raises(ValueError, match="of the caller"):
            writer.run(fail)
        assert writer.run(lambda: 5) == 5


@pytest.mark.parametrize("error", [InterfaceError("connection already closed"), ValueError("a fault")])
def test_saves_that_cannot_be_saved_together_are_saved_one_at_a_time(make_connection, monkeypatch, error):
    save = Saves.run

    def one_at_a_time(self: Saves, saves: Any) -> bool:
        if len(saves) > 1:
            raise error
        return save(self, saves)

    monkeypatch.setattr(Saves, "run", one_at_a_time)
    busy, answered = threading.Event(), Results()
    with Writer(Connection, "default", NOTHING) as writer:
        waiting = threading.Thread(target=writer.run, args=(lambda: busy.wait(TIMEOUT),))
        waiting.start()
        for _ in range(3):
            writer.save_soon(a_save(make_connection()), answered)
        busy.set()
        waiting.join()
        assert [answered.get(timeout=TIMEOUT) for _ in range(3)] == [(True, None)] * 3


def test_a_receiver_that_fails_does_not_end_the_writer(make_connection, caplog):
    def fail(*_: Any) -> None:
        raise ValueError("of a receiver")

    answered = Results()
    with Writer(Connection, "default", NOTHING) as writer:
        writer.save_soon(a_save(make_connection()), fail)
        writer.save_soon(a_save(make_connection()), answered)
        assert answered.get(timeout=TIMEOUT) == (True, None)
    assert {getattr(record, "action", "") for record in caplog.records} == {"refresh_crashed"}


@pytest.mark.vendor("postgresql")
def test_a_host_that_has_become_read_only_is_replaced_by_the_one_that_writes(make_connection):
    def failed_over() -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = on")

    connection = make_connection()
    with Writer(Connection, "default", NOTHING) as writer:
        writer.run(failed_over)
        with pytest.raises(InternalError):
            saved(writer, a_save(connection))
        assert saved(writer, a_save(connection))


def test_the_writer_closes_its_database_connection(make_connection):
    with Writer(Connection, "default", NOTHING) as writer:
        used = writer.run(lambda: connections["default"])
        writer.run(lambda: rows().count())
        assert used.connection is not None
    assert used.connection is None
