"""A consent is stored while somebody else writes to the same row."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from django.db import OperationalError, transaction
from django.db import connection as database
from django.db.models import F

from oauth_connect.errors import ConnectionLocked
from oauth_connect.models import Connection
from oauth_connect.models.lifecycle import connect
from tests.faults.test_transactions import repeatable_read
from tests.servers.scripted import Answer
from tests.support.tokens import EXPIRED, FRESH, raw, stored

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted_provider")]

WITHOUT_REFRESH_TOKEN = {"access_token": "access-9", "token_type": "Bearer", "expires_in": 3600}
MAX_CONNECTIONS = 400  # statements of one store()


@pytest.fixture
def refreshed_meanwhile(scripted: Any, make_connection: Any, start: Any) -> Callable[[], Connection]:
    """A connection that this transaction has read before another process refreshed it."""
    scripted.on("/token", Answer(body=FRESH))
    connection = make_connection(age=EXPIRED, account_id="7")
    other = start(connection).ready()

    def read() -> Connection:
        assert stored(connection).version == 0
        assert other.go().result() == {"token": "access-1", "version": 1}
        return connection

    return read


@pytest.fixture
def has_an_end() -> AbstractContextManager[None]:
    """Fail where statements go round and round."""
    left = iter(range(MAX_CONNECTIONS))

    def counted(execute: Any, *rest: Any) -> Any:
        assert next(left, None) is not None
        return execute(*rest)

    return database.execute_wrapper(counted)


@pytest.mark.vendor("mysql")
@pytest.mark.parametrize(
    ("response", "kept"), [(WITHOUT_REFRESH_TOKEN, "refresh-1"), ({**FRESH, "refresh_token": "r-9"}, "r-9")]
)
def test_behind_an_old_snapshot_the_row_is_written_over_as_it_is_now(
    refreshed_meanwhile, make_connection, has_an_end, response, kept
):
    with repeatable_read():
        connection = refreshed_meanwhile()
        with has_an_end:
            renewed = make_connection(account_id="7", response=response)
        assert renewed.version == 2
    assert stored(connection).token.refresh_token == kept


@pytest.mark.vendor("postgresql")
def test_behind_an_old_snapshot_postgresql_refuses_and_nothing_is_lost(refreshed_meanwhile, make_connection):
    with repeatable_read():
        connection = refreshed_meanwhile()
        with pytest.raises(OperationalError, match="could not serialize"):
            make_connection(account_id="7", response=WITHOUT_REFRESH_TOKEN)
        transaction.set_rollback(True)
    assert stored(connection).token.refresh_token == "refresh-1"


@pytest.mark.vendor("mysql")
def test_a_row_that_an_old_snapshot_does_not_show_is_renewed(make_connection, calls_at_once):
    with repeatable_read():
        assert not Connection.objects.exists()
        calls_at_once(1, lambda: make_connection(account_id="7"))
        renewed = make_connection(account_id="7", response=FRESH)
        assert (renewed.version, renewed.token.refresh_token) == (1, "refresh-1")
    assert Connection.objects.count() == 1


@pytest.mark.vendor("mysql")
def test_two_who_connect_for_the_first_time_do_not_wait_for_one_another(make_connection, calls_at_once):
    """A locking read of what is not there would lock the gap around it, for both."""
    with repeatable_read():
        make_connection(account_id="7")
        (other,) = calls_at_once(1, under_a_snapshot(lambda: make_connection(account_id="8")))
        assert other.account_id == "8"


def under_a_snapshot(work: Callable[[], Any]) -> Callable[[], Any]:
    def within() -> Any:
        with database.cursor() as cursor:
            cursor.execute("SET SESSION innodb_lock_wait_timeout = 2")
        with repeatable_read():
            return work()

    return within


@pytest.mark.parametrize("inside", [nullcontext, transaction.atomic], ids=["autocommit", "atomic"])
def test_where_others_are_always_faster_there_is_an_end(make_connection, monkeypatch, has_an_end, inside):
    connection = make_connection(account_id="7")
    left_out = connect._with_missing_parts

    def overtaken(*known: Any) -> Any:
        raw(connection).update(version=F("version") + 1)
        return left_out(*known)

    monkeypatch.setattr(connect, "_with_missing_parts", overtaken)
    with inside(), has_an_end, pytest.raises(ConnectionLocked, match="nothing was stored"):
        make_connection(account_id="7", response=WITHOUT_REFRESH_TOKEN)
    assert stored(connection).token.access_token == "access-0"


def test_overtaken_once_it_takes_what_was_saved(make_connection, monkeypatch):
    connection = make_connection(account_id="7")
    left_out = connect._with_missing_parts
    others = iter([1])

    def overtaken(*known: Any) -> Any:
        raw(connection).update(version=F("version") + next(others, 0))
        return left_out(*known)

    monkeypatch.setattr(connect, "_with_missing_parts", overtaken)
    renewed = make_connection(account_id="7", response=WITHOUT_REFRESH_TOKEN)
    assert (renewed.token.access_token, renewed.version) == ("access-9", 2)
