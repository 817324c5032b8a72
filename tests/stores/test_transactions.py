"""The caller's transaction decides nothing, and nothing is held while HTTP runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connections, transaction
from django.db import connection as database

from oauth_connect.errors import ConnectionLocked
from oauth_connect.models import Connection
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.stores.transactions import Placement, placement, write_transaction
from tests.servers.scripted import Answer
from tests.support.follow_ups import wait_for_follow_ups
from tests.support.threads import in_another_thread
from tests.support.tokens import EXPIRED, FRESH

ROOT = Path(__file__).resolve().parents[2]
transactional = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def answer(scripted: Any, scripted_provider: Any) -> None:
    scripted.on("/token", Answer(body=FRESH))


@transactional
def test_outside_a_transaction_the_callers_own_connection_commits():
    assert placement("default") is Placement.CALLER


@transactional
def test_inside_a_transaction_another_connection_does_or_on_sqlite_a_follow_up():
    expected = Placement.CALLER_THEN_REPEAT if database.vendor == "sqlite" else Placement.OWN_CONNECTION
    with transaction.atomic():
        assert placement("default") is expected


@transactional
def test_with_autocommit_off_one_is_in_a_transaction():
    expected = Placement.CALLER_THEN_REPEAT if database.vendor == "sqlite" else Placement.OWN_CONNECTION
    database.set_autocommit(False)
    try:
        assert placement("default") is expected
    finally:
        database.rollback()
        database.set_autocommit(True)


@pytest.mark.vendor("sqlite")
@transactional
def test_a_transaction_for_several_writes_begins_as_a_writer_on_sqlite(monkeypatch):
    table = Connection._meta.db_table
    database.ensure_connection()
    monkeypatch.setattr(connections["default"], "transaction_mode", None)  # Django's default
    other = database.copy()
    other.settings_dict["OPTIONS"]["timeout"] = 0
    with write_transaction("default", table), pytest.raises(OperationalError, match="locked"):
        other.cursor().execute("BEGIN IMMEDIATE")
    other.close()


@transactional
def test_a_transaction_for_several_writes_is_the_callers_or_ends_by_itself(make_connection):
    table = Connection._meta.db_table
    with write_transaction("default", table):
        make_connection()
    with transaction.atomic():
        with write_transaction("default", table):
            make_connection()
        transaction.set_rollback(True)
    assert Connection.objects.count() == 1


@pytest.mark.django_db
def test_inside_a_test_case_everything_stays_in_its_transaction(make_connection):
    connection = make_connection(age=EXPIRED)
    with transaction.atomic():
        assert placement("default") is Placement.CALLER
        assert connection.access_token() == "access-1"


@transactional
def test_no_connection_of_its_own_is_left_behind(make_connection):
    connection = make_connection(age=EXPIRED)
    with transaction.atomic():
        connection.access_token()
    wait_for_follow_ups()
    assert not hasattr(connections._connections, "default:oauth_connect")  # type: ignore[attr-defined]


@transactional
@pytest.mark.compliance("D62")
def test_while_the_provider_thinks_no_lock_and_no_transaction_of_ours_is_open(make_connection, monkeypatch):
    connection = make_connection(age=EXPIRED)
    seen: dict[str, Any] = {}
    refresh = AuthorizationServer.refresh

    def look(self: AuthorizationServer, *args: Any, **kwargs: Any) -> Any:
        seen["in transaction"] = database.in_atomic_block
        # Another thread writes to the very row; a lock of ours would hold it up.
        row = Connection.objects.filter(pk=connection.pk)
        in_another_thread(lambda: row.update(account_label="written meanwhile"))
        return refresh(self, *args, **kwargs)

    monkeypatch.setattr(AuthorizationServer, "refresh", look)
    connection.access_token()
    assert seen == {"in transaction": False}
    assert Connection.objects.get().account_label == "written meanwhile"
    assert Connection.objects.get().token.access_token == "access-1"


@transactional
def test_a_caller_that_holds_its_own_row_gets_an_error_before_a_request(make_connection, scripted):
    """On SQLite nobody else can write while the caller does, and its own statements do not lock it out."""
    connection = make_connection(age=EXPIRED)
    if database.vendor == "sqlite":
        with transaction.atomic():
            hold(connection)
            assert connection.access_token() == "access-1"
        return
    with transaction.atomic():
        hold(connection)
        with pytest.raises(ConnectionLocked, match="nothing was sent"):
            connection.access_token()
    assert not scripted.requests
    assert connection.access_token() == "access-1"


def hold(connection: Connection) -> None:
    connection.account_label = "changed"
    connection.save()


@pytest.mark.vendor("postgresql")  # that is how it spells REPEATABLE READ
@transactional
def test_inside_a_repeatable_read_transaction_the_newest_token_is_found(make_connection):
    connection = make_connection(age=EXPIRED)
    with transaction.atomic():
        with database.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert Connection.objects.get(pk=connection.pk).version == 0
        in_another_thread(lambda: Connection.objects.get(pk=connection.pk).refresh())
        assert Connection.objects.get(pk=connection.pk).version == 0, "the snapshot is an old one"
        assert connection.access_token() == "access-1"
        assert connection.version == 1


@pytest.mark.once
@pytest.mark.process
def test_in_an_sqlite_database_in_memory_a_refresh_locks_nothing_of_the_site(scripted):
    """A second connection would: in memory, SQLite locks whole tables between connections."""
    command = [sys.executable, "-m", "tests.faults.memory_site", scripted.url]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) == {"failed": [], "threads": 1}
    assert len(scripted.asked("/token")) == 30
