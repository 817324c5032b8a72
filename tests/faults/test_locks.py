"""Somebody else's open transaction holds the row: the wait has an end, and nothing is sent or lost."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection as database
from django.db import transaction

from oauth_connect.engine.store import ACTIVE
from oauth_connect.errors import ConnectionLocked
from oauth_connect.models import Connection
from oauth_connect.stores import row as store
from tests.faults.held import held_by_another, retries
from tests.servers.scripted import Answer
from tests.support.follow_ups import wait_for_follow_ups
from tests.support.threads import meanwhile
from tests.support.tokens import EXPIRED, FRESH

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted_provider")]


@pytest.fixture(autouse=True)
def answer(scripted: Any) -> None:
    scripted.on("/token", Answer(body=FRESH))


@pytest.fixture(autouse=True)
def short_patience_on_sqlite() -> Any:
    """There a statement waits as long as the site's ``timeout`` says, which is 20 s in these tests."""
    if database.vendor == "sqlite":
        with database.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout = 500")
    yield
    database.close()


def test_a_claim_on_a_row_that_another_holds_gives_up_and_sends_nothing(make_connection, scripted):
    connection = make_connection(age=EXPIRED)
    with held_by_another(connection), pytest.raises(ConnectionLocked, match="nothing was sent"):
        connection.access_token()
    assert not scripted.requests
    assert connection.access_token() == "access-1"


def test_a_short_lock_on_the_row_only_delays_a_claim(make_connection, scripted, monkeypatch):
    monkeypatch.setattr(store, "CLAIM_WAIT", 40.0)
    if database.vendor == "sqlite":
        with database.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout = 40000")
    connection = make_connection(age=EXPIRED)
    with held_by_another(connection, seconds=0.2):
        assert connection.access_token() == "access-1"
    assert len(scripted.asked("/token")) == 1


def test_the_bound_of_a_wait_costs_no_statement_and_stays_in_no_session(
    make_connection, django_assert_num_queries
):
    connection = make_connection(age=EXPIRED)
    with django_assert_num_queries(4):  # read, claim, save, history
        connection.access_token()
    assert lock_wait_of_the_session() == lock_wait_of_a_new_session()


def test_in_a_transaction_of_the_caller_no_bound_of_ours_is_left_behind(make_connection):
    with transaction.atomic():
        before = lock_wait_of_the_session()
        assert make_connection(age=EXPIRED).access_token() == "access-1"
        assert lock_wait_of_the_session() == before
    wait_for_follow_ups()


def test_a_save_outlasts_a_lock_on_the_row(make_connection, scripted, monkeypatch):
    """Saving is patient: the token has been spent. Each wait has an end all the same, and is repeated.

    The provider answers once the row is locked, and it is free again once a save has been given up.
    """
    monkeypatch.setattr(store, "SAVE_WAIT", 1.0)
    connection = make_connection(age=EXPIRED)
    locked = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=locked))

    def hold() -> None:
        scripted.wait_for("/token")
        with held_by_another(connection):
            locked.set()
            retried.wait_for(1)

    with retries() as retried, meanwhile(hold):
        assert connection.access_token() == "access-1"

    assert len(scripted.asked("/token")) == 1
    stored = Connection.objects.get()
    assert (stored.version, stored.status, stored.token.refresh_token) == (1, ACTIVE, "refresh-1")


def lock_wait_of_the_session() -> Any:
    show = {
        "postgresql": "SHOW lock_timeout",
        "mysql": "SELECT @@innodb_lock_wait_timeout",
        "sqlite": "SELECT 0",
    }
    with database.cursor() as cursor:
        cursor.execute(show[database.vendor])
        return cursor.fetchone()


def lock_wait_of_a_new_session() -> Any:
    database.close()
    return lock_wait_of_the_session()
