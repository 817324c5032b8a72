"""A provider that does not answer holds up whoever needs its token, and nobody and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection as database

from oauth_connect.models import Connection
from tests.faults.processes import Worker
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.threads import meanwhile
from tests.support.tokens import EXPIRED, FRESH, raw
from tests.support.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

CALLERS = 4


@pytest.fixture
def hung(scripted: ScriptedServer, scripted_entry: Any, configure: Any) -> Iterator[threading.Event]:
    """Two providers at one server; the one called ``hung`` answers when this is set."""
    released = threading.Event()
    healthy = {**scripted_entry, "token_endpoint": f"{scripted.url}/healthy"}
    configure(PROVIDERS={"hung": scripted_entry, "healthy": healthy}, HTTP_TIMEOUT=50)
    scripted.on("/token", Answer(body=FRESH, hold=released))
    scripted.on("/healthy", Answer(body=FRESH))
    yield released
    released.set()


@pytest.fixture
def hanging(
    scripted: ScriptedServer, hung: threading.Event, start: Any, make_connection: Any
) -> Callable[..., tuple[Worker, list[Connection]]]:
    """A process of which each thread waits for the hung provider."""

    def run(**orders: Any) -> tuple[Worker, list[Connection]]:
        connections = [make_connection("hung", age=EXPIRED) for _ in range(CALLERS)]
        worker: Worker = start(*connections, **orders).ready().go()
        scripted.wait_for("/token", CALLERS)
        return worker, connections

    return run


@pytest.mark.compliance("D62")
def test_another_provider_and_other_writers_go_on(hung, hanging, make_connection, start):
    worker, waiting = hanging()

    other = start(make_connection("healthy", age=EXPIRED)).ready().go()
    assert other.result() == {"token": "access-1", "version": 1}
    for connection in waiting:
        assert raw(connection).update(account_label="written meanwhile"), "its row is not locked"

    hung.set()
    assert worker.results() == [{"token": "access-1", "version": 1}] * CALLERS
    assert {row.account_label for row in Connection.objects.filter(provider="hung")} == {"written meanwhile"}


@pytest.mark.compliance("D62")
def test_in_one_process_another_provider_continues_too(hung, scripted, make_connection, calls_at_once):
    stuck = make_connection("hung", age=EXPIRED)
    with meanwhile(lambda: calls_at_once(2, stuck.access_token)):
        scripted.wait_for("/token")

        assert make_connection("healthy", age=EXPIRED).access_token() == "access-1"
        assert len(scripted.asked("/token")) == 1

        hung.set()


@pytest.mark.compliance("D62")
@pytest.mark.parametrize("inside", [[], ["atomic"]], ids=["autocommit", "atomic"])
def test_the_waiting_hold_no_database_session_but_the_callers_own(hung, hanging, inside):
    """And a transaction only where the caller has opened one, for itself."""
    if database.vendor == "sqlite":
        # It has no sessions to run out of; a caller in a transaction has the one write lock (a check warns).
        worker, _ = hanging()
        hung.set()
        assert len(worker.results()) == CALLERS
        return
    pool = {"pool": {"min_size": 1, "max_size": CALLERS, "timeout": 30}}
    worker, _ = hanging(inside=inside, options=pool if database.vendor == "postgresql" else None)

    # What is under way when the last of them has asked, ends soon; what waits for the provider would not.
    eventually(
        lambda: set(sessions_of_others()) <= {"idle"},
        lambda: f"no transaction of our own: {sessions_of_others()}",
        interval=0.2,  # InnoDB shows nothing new sooner
    )
    assert len(sessions_of_others()) <= CALLERS
    hung.set()
    assert worker.results() == [{"token": "access-1", "version": 1}] * CALLERS


def sessions_of_others() -> list[str]:
    """What the other sessions in this test's database are doing."""
    asked = {
        "postgresql": "SELECT state FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
        "mysql": "SELECT IF(p.command = 'Sleep' AND t.trx_id IS NULL, 'idle', 'busy') "
        "FROM information_schema.processlist p LEFT JOIN information_schema.innodb_trx t "
        "ON t.trx_mysql_thread_id = p.id WHERE p.db = DATABASE() AND p.id <> CONNECTION_ID()",
    }
    with database.cursor() as cursor:
        cursor.execute(asked[database.vendor])
        return [state for (state,) in cursor.fetchall()]
