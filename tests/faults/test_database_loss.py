"""The database goes away after the provider's answer: cut off, or, on SQLite, locked by somebody else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection as database
from django.db import transaction

from oauth_connect import crypto
from oauth_connect.engine.store import ACTIVE
from oauth_connect.errors import ReauthorizationRequired
from oauth_connect.models import Connection
from oauth_connect.stores import transactions
from tests.faults.held import held_by_another, retries
from tests.faults.processes import Worker, let_lease_run_out
from tests.faults.worker import BEFORE_SAVE
from tests.servers.proxy import Proxy
from tests.servers.scripted import Answer
from tests.support.threads import meanwhile
from tests.support.tokens import EXPIRED, FRESH, raw, stored

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted_provider")]

Outage = Callable[[Connection], AbstractContextManager[None]]


@pytest.fixture
def proxy() -> Iterator[Proxy | None]:
    if database.vendor == "sqlite":
        yield None
        return
    proxy = Proxy(connect_to_database_server)
    yield proxy
    proxy.close()


def connect_to_database_server() -> socket.socket:
    at = database.settings_dict
    port = at["PORT"] or "5432"
    if not at["HOST"].startswith("/"):
        return socket.create_connection((at["HOST"] or "127.0.0.1", int(port)))
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(f"{at['HOST']}/.s.PGSQL.{port}")
    return connected


@pytest.fixture
def outage(proxy: Proxy | None) -> Outage:
    """While the block runs, the worker's database is away."""

    @contextmanager
    def away(connection: Connection) -> Iterator[None]:
        if proxy is None:
            with held_by_another(connection, seconds=60):
                yield
            return
        proxy.cut()
        yield
        proxy.restore()

    return away


@pytest.fixture
def tries_in_vain(proxy: Proxy | None) -> Callable[[], None]:
    """Wait until the worker has tried to save in vain."""

    def wait() -> None:
        if proxy is None:
            time.sleep(2)  # ten times what it waits for the lock: SQLite shows nobody who waits
        else:
            proxy.sent_away.wait_for(1)  # it has met the broken connection, and tried for another

    return wait


@pytest.fixture
def answered(start: Any, proxy: Proxy | None, scripted: Any) -> Callable[..., Worker]:
    """A process that has got its answer from the provider, and has not saved it."""

    def run(connection: Connection, **orders: Any) -> Worker:
        scripted.on("/token", Answer(body=FRESH), Answer(400, {"error": "invalid_grant"}))
        reached = {"port": str(proxy.port)} if proxy else {"options": {"timeout": 0.2}}
        worker: Worker = start(connection, stops=[BEFORE_SAVE], **reached, **orders)
        return worker.ready().go().until(BEFORE_SAVE)

    return run


@pytest.mark.compliance("D31")
def test_a_save_is_repeated_until_the_database_is_back_and_the_request_is_not(
    make_connection, answered, outage, scripted, tries_in_vain
):
    connection = make_connection(age=EXPIRED)
    worker = answered(connection)

    with outage(connection):
        worker.go()
        tries_in_vain()

    assert worker.result() == {"token": "access-1", "version": 1}
    assert "save_retried" in worker.logged
    kept = raw(connection).get()
    assert (kept.status, kept.token.refresh_token, kept.lease_owner) == (ACTIVE, "refresh-1", "")
    assert len(scripted.asked("/token")) == 1


@pytest.mark.compliance("D31")
def test_the_token_outlives_the_callers_transaction_that_the_outage_ended(
    make_connection, answered, outage, scripted, tries_in_vain
):
    """Its own connection is gone, and so is what it wrote. SQLite's transaction holds the file, and lives."""
    connection = make_connection(age=EXPIRED)
    worker = answered(connection, inside=["writes"])

    if database.vendor == "sqlite":
        assert worker.go().result() == {"token": "access-1", "version": 1}
    else:
        with outage(connection):
            worker.go()
            tries_in_vain()
        assert worker.result()["error"] in {"OperationalError", "InterfaceError"}
        assert not get_user_model().objects.filter(username="written in the transaction").exists()

    assert stored(connection).token.refresh_token == "refresh-1"
    assert len(scripted.asked("/token")) == 1


@pytest.mark.compliance("D31")
def test_a_database_that_stays_away_ends_the_tries_with_a_clear_error_and_no_second_request(
    make_connection, answered, outage, scripted
):
    connection = make_connection(age=EXPIRED)
    worker = answered(connection, save_pauses=[0.05, 0.05, 0.05])

    with outage(connection):
        met = worker.go().result()

    assert met["error"] == "OperationalError"
    assert "could not be saved" in " ".join(met["notes"])
    assert worker.logged == ["save_retried"] * 3 + ["save_lost"]
    assert len(scripted.asked("/token")) == 1

    # The row is as a crash would have left it, and ends like one.
    let_lease_run_out(connection)
    with pytest.raises(ReauthorizationRequired) as caught:
        stored(connection).access_token()
    assert caught.value.reason == "rotation_lost"


@pytest.mark.compliance("D31")
@pytest.mark.vendor("postgresql")
def test_a_host_that_has_become_read_only_is_replaced_by_the_one_that_writes(
    make_connection, scripted, monkeypatch
):
    """After a failover: the session goes on to answer, and refuses every write."""

    def checked_then_failed_over() -> None:
        check()
        with database.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = on")

    check = crypto.check_sealing
    monkeypatch.setattr(crypto, "check_sealing", checked_then_failed_over)
    scripted.on("/token", Answer(body=FRESH))
    monkeypatch.setitem(database.settings_dict, "CONN_MAX_AGE", None)  # else it is closed for its age
    database.close()

    assert make_connection(age=EXPIRED).access_token() == "access-1"

    assert stored(Connection.objects.get()).token.refresh_token == "refresh-1"
    assert len(scripted.asked("/token")) == 1


@pytest.mark.compliance("D31")
def test_a_failure_that_cannot_be_noted_leaves_a_lease_that_runs_out(
    make_connection, start, proxy, outage, scripted
):
    """Nothing was saved of it: neither the failure nor the back-off; the token is still the old one."""
    released = threading.Event()
    scripted.on("/token", Answer(503, hold=released))
    connection = make_connection(age=EXPIRED)
    reached = {"port": str(proxy.port)} if proxy else {"options": {"timeout": 0.2}}
    worker = start(connection, save_pauses=[0.05], **reached).ready().go()
    scripted.wait_for("/token")

    with outage(connection):
        released.set()
        met = worker.result()

    assert met["error"] == "OperationalError"
    scripted.on("/token", Answer(body=FRESH))
    let_lease_run_out(connection)
    assert stored(connection).access_token() == "access-1"


def test_while_no_connection_of_its_own_is_free_a_save_is_retried(make_connection, scripted, monkeypatch):
    """Inside a transaction; on SQLite that needs none."""
    monkeypatch.setattr(transactions, "SLOT_TIMEOUT", 0.2)
    connection = make_connection(age=EXPIRED)
    released = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=released))

    def occupy() -> None:
        scripted.wait_for("/token")
        for _ in range(transactions.MAX_CONNECTIONS):
            transactions._slots.free.acquire()
        released.set()
        if database.vendor != "sqlite":
            retried.wait_for(1)
        transactions._slots.free.release(transactions.MAX_CONNECTIONS)

    with retries() as retried, meanwhile(occupy), transaction.atomic():
        assert connection.access_token() == "access-1"
    assert len(scripted.asked("/token")) == 1
