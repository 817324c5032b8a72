"""A refresh inside whatever transaction its caller is in: it stays, and the caller's own fate is its own."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import OperationalError, connections, transaction
from django.db import connection as database
from django.db.models.signals import post_save
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, TestCase, TransactionTestCase, override_settings
from django.urls import path

from oauth_connect.engine.store import ACTIVE, REAUTHORIZATION_REQUIRED
from oauth_connect.errors import (
    CallError,
    ConnectionLocked,
    ProviderMisconfigured,
    ProviderUnavailable,
    ReauthorizationRequired,
)
from oauth_connect.flows import machine_connection
from oauth_connect.jobs.refresh import Due, refresh_due
from oauth_connect.models import Connection, PendingRevocation, ProviderState
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.stores.row import FOLLOW_UP_THREAD
from tests.faults.processes import at_once
from tests.faults.worker import BEFORE_CLAIM
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.aging import prolong_back_off
from tests.support.follow_ups import wait_for_follow_ups
from tests.support.tokens import EXPIRED, FRESH, raw, stored

transactional = pytest.mark.django_db(transaction=True)

OF_THE_SITE = "written in the transaction"


def written() -> bool:
    return bool(get_user_model().objects.filter(username=OF_THE_SITE).exists())


# --- committed, rolled back, nested ---------------------------------------------------------------


@transactional
@pytest.mark.parametrize(
    "inside",
    [
        ["writes"],
        ["durable", "writes"],
        ["atomic", "atomic", "writes"],
        ["writes", "roll back"],
        ["durable", "roll back", "writes"],
        ["roll back", "atomic", "writes", "atomic"],
    ],
    ids="-".join,
)
def test_the_new_token_stays_whatever_becomes_of_the_callers_transaction(
    codeyard, make_connection, start, inside
):
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())
    order = {"task": "call", "path": "user", "inside": inside}

    assert start(connection, **order).ready().go().result() == {"status": 200, "version": 1}

    # A savepoint rolled back within takes only what was written inside of it.
    assert written() is ("roll back" not in inside[: inside.index("writes")])
    kept = raw(connection).get()
    assert (kept.status, kept.version, kept.lease_owner) == (ACTIVE, 1, "")
    # The provider agrees: what is stored is the living one.
    stored(connection).refresh()
    assert (codeyard.refreshes, codeyard.stats["reuse_seen"]) == (2, 0)


@transactional
def test_a_savepoint_that_is_rolled_back_takes_the_token_not_along(
    scripted, scripted_provider, make_connection
):
    scripted.on("/token", Answer(body=FRESH))
    connection = make_connection(age=EXPIRED)

    with transaction.atomic():
        with transaction.atomic():
            assert connection.access_token() == "access-1"
            transaction.set_rollback(True)
        assert connection.access_token() == "access-1"
    wait_for_follow_ups()

    assert stored(connection).token.refresh_token == "refresh-1"
    assert len(scripted.asked("/token")) == 1


@transactional
def test_an_audit_log_of_the_site_does_not_hold_the_token_up(scripted, scripted_provider, make_connection):
    """On SQLite a receiver that writes would wait for the copied connection, which waits for the receiver."""
    scripted.on("/token", Answer(body=FRESH))
    connection = make_connection(age=EXPIRED)
    locked = []

    def log_change(sender: Any, **_: Any) -> None:
        if sender is not get_user_model():
            try:
                get_user_model().objects.create(username=f"log entry {uuid.uuid4()}")
            except OperationalError as error:
                locked.append(error)
                raise

    post_save.connect(log_change)
    try:
        with transaction.atomic():
            connection.refresh()
            transaction.set_rollback(True)
        wait_for_follow_ups()
    finally:
        post_save.disconnect(log_change)
    assert locked == []
    assert stored(connection).token.refresh_token == "refresh-1"


@transactional
def test_a_refresh_on_commit_is_outside_of_the_transaction(scripted, scripted_provider, make_connection):
    scripted.on("/token", Answer(body=FRESH))
    connection = make_connection(age=EXPIRED)

    with transaction.atomic():
        connection.account_label = "changed in the transaction"
        connection.save()  # its row is locked from here on
        transaction.on_commit(connection.refresh)
        assert not scripted.requests

    assert (stored(connection).version, stored(connection).account_label) == (1, connection.account_label)
    assert len(scripted.asked("/token")) == 1


@transactional
@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_a_site_without_autocommit_keeps_the_token(scripted, scripted_provider, make_connection, ending):
    scripted.on("/token", Answer(body=FRESH))
    connection = make_connection(age=EXPIRED)

    database.close()
    database.settings_dict["AUTOCOMMIT"] = False
    try:
        assert connection.access_token() == "access-1"
        getattr(database, ending)()
    finally:
        database.close()
        database.settings_dict["AUTOCOMMIT"] = True
    wait_for_follow_ups()

    assert (stored(connection).version, stored(connection).token.refresh_token) == (1, "refresh-1")
    assert len(scripted.asked("/token")) == 1


@transactional
def test_with_autocommit_off_a_rollback_takes_the_token_not_along(
    scripted, scripted_provider, make_connection
):
    scripted.on("/token", Answer(body=FRESH))
    connection = make_connection(age=EXPIRED)

    database.set_autocommit(False)
    try:
        assert connection.access_token() == "access-1"
        database.rollback()
    finally:
        database.set_autocommit(True)
    wait_for_follow_ups()

    assert stored(connection).token.refresh_token == "refresh-1"


@transactional
def test_a_crash_of_what_is_due_leaves_the_callers_transaction_alone(
    scripted, scripted_provider, make_connection, monkeypatch
):
    def crash(*args: Any, **options: Any) -> None:
        raise ArithmeticError

    monkeypatch.setattr(AuthorizationServer, "refresh", crash)
    make_connection(age=EXPIRED)

    with transaction.atomic():
        get_user_model().objects.create(username=OF_THE_SITE)
        assert [result.outcome for result in refresh_due(Due())] == ["failed"]

    assert written()


# --- what the caller sees, and holds --------------------------------------------------------------


@transactional
def test_a_snapshot_from_before_anothers_refresh_does_not_make_the_caller_spend_it_again(
    scripted, scripted_provider, make_connection, start
):
    """Under REPEATABLE READ. On SQLite nobody else can write while the transaction is open."""
    scripted.on("/token", Answer(body=FRESH), Answer(400, {"error": "invalid_grant"}))
    connection = make_connection(age=EXPIRED)
    other = start(connection, options={"timeout": 0.2} if database.vendor == "sqlite" else None).ready()

    with repeatable_read():
        assert stored(connection).version == 0
        met = other.go().result()
        assert stored(connection).version == 0, "the snapshot is an old one"
        mine = stored(connection)
        assert mine.access_token() == "access-1"
        assert mine.version == 1
    wait_for_follow_ups()

    if database.vendor == "sqlite":
        assert (met["error"], met["code"]) == ("ConnectionLocked", "connection_locked")
    else:
        assert met == {"token": "access-1", "version": 1}
    assert stored(connection).version == 1
    assert len(scripted.asked("/token")) == 1


@transactional
@pytest.mark.parametrize("mode", ["IMMEDIATE", "DEFERRED"])
def test_a_caller_in_a_transaction_that_was_slower_at_the_claim(
    scripted, scripted_provider, make_connection, start, mode
):
    """On SQLite a transaction that began by reading cannot write any more; a check tells of the mode."""
    scripted.on("/token", Answer(body=FRESH), Answer(400, {"error": "invalid_grant"}))
    connection = make_connection(age=EXPIRED)
    options = {"transaction_mode": mode, "timeout": 0.2} if database.vendor == "sqlite" else {}
    slower = start(connection, stops=[BEFORE_CLAIM], inside=["atomic"], options=options)
    slower.ready().go().until(BEFORE_CLAIM)

    faster = start(connection, options=options).ready().go().result()
    met = slower.go().result()

    got = {"token": "access-1", "version": 1}
    if options == {}:
        assert (faster, met) == (got, got)
    elif mode == "DEFERRED":
        assert (faster, met["error"]) == (got, "ConnectionLocked")
    else:
        assert (faster["error"], met) == ("ConnectionLocked", got)
    assert stored(connection).token.refresh_token == "refresh-1"
    assert len(scripted.asked("/token")) == 1


@contextmanager
def repeatable_read() -> Iterator[None]:
    statement = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
    with database.cursor() as cursor:
        if database.vendor == "mysql":
            cursor.execute(statement)  # for the next transaction
        with transaction.atomic():
            if database.vendor == "postgresql":
                cursor.execute(statement)  # for this one
            yield


@pytest.fixture
def children(transactional_db: None) -> Iterator[str]:
    """A site's table with a foreign key to connections."""
    key = Connection._meta.pk
    with database.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE faults_child (connection_id {key.rel_db_type(database)} NOT NULL, "
            f"FOREIGN KEY (connection_id) REFERENCES {Connection._meta.db_table} (id))"
        )
    yield "faults_child"
    with database.cursor() as cursor:
        cursor.execute("DROP TABLE faults_child")


def test_a_child_row_inserted_before_the_refresh(scripted, scripted_provider, make_connection, children):
    """MariaDB locks the parent row for that, so there the caller is told before anything is sent."""
    scripted.on("/token", Answer(body=FRESH))
    connection = make_connection(age=EXPIRED)

    with transaction.atomic():
        insert_child(children, connection)
        if database.vendor == "mysql":
            with pytest.raises(ConnectionLocked, match="nothing was sent"):
                connection.access_token()
            assert not scripted.requests
        else:
            assert connection.access_token() == "access-1"
    wait_for_follow_ups()

    assert connection.access_token() == "access-1"
    assert stored(connection).token.refresh_token == "refresh-1"
    assert len(scripted.asked("/token")) == 1


def test_a_child_row_inserted_after_the_refresh(scripted, scripted_provider, make_connection, children):
    scripted.on("/token", Answer(body=FRESH))
    connection = make_connection(age=EXPIRED)

    with transaction.atomic():
        assert connection.access_token() == "access-1"
        insert_child(children, connection)
    wait_for_follow_ups()

    assert stored(connection).token.refresh_token == "refresh-1"


def insert_child(table: str, connection: Connection) -> None:
    key = Connection._meta.pk.get_db_prep_value(connection.pk, database)
    with database.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} (connection_id) VALUES (%s)", [key])  # noqa: S608


# --- pools and threads ----------------------------------------------------------------------------


@transactional
@pytest.mark.compliance("D62")
def test_four_callers_in_transactions_do_not_deadlock_over_a_pool_of_four(
    scripted, scripted_provider, make_connection, start
):
    """Each holds one of the four, and refreshes on a connection that is none of the pool's."""
    scripted.on("/token", Answer(body=FRESH))
    mine = [make_connection(age=EXPIRED) for _ in range(4)]
    pool = {"pool": {"min_size": 1, "max_size": 4, "timeout": 5}} if database.vendor == "postgresql" else {}

    results = start(*mine, inside=["atomic"], options=pool).ready().go().results()

    assert results == [{"token": "access-1", "version": 1}] * 4
    assert {row.version for row in Connection.objects.all()} == {1}
    assert len(scripted.asked("/token")) == 4


@transactional
@pytest.mark.compliance("D30")
def test_callers_of_one_row_in_transactions_of_several_processes_make_one_request(
    codeyard, make_connection, start
):
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())

    orders = {"task": "call", "path": "user", "inside": ["atomic"]}
    workers = at_once([start(connection, connection, **orders) for _ in range(3)])
    met = [result for worker in workers for result in worker.results()]

    assert met == [{"status": 200, "version": 1}] * 6
    assert codeyard.refreshes == 1


# --- async ----------------------------------------------------------------------------------------


async def refreshing(request: HttpRequest) -> HttpResponse:
    connection = await Connection.objects.aget()
    await connection.arefresh()
    return HttpResponse(await connection.aaccess_token())


async def refreshing_and_failing(request: HttpRequest) -> HttpResponse:
    await refreshing(request)
    raise ValueError("a fault of the site, after the refresh")


urlpatterns = [path("refresh/", refreshing), path("refresh-and-fail/", refreshing_and_failing)]


@transactional
@pytest.mark.parametrize(("page", "status"), [("/refresh/", 200), ("/refresh-and-fail/", 500)])
def test_an_async_view_refreshes_without_blocking_its_loop_and_keeps_the_token(
    scripted, scripted_provider, make_connection, settings, page, status
):
    settings.ROOT_URLCONF = __name__
    scripted.on("/token", Answer(body=FRESH))
    connection = make_connection()
    client = AsyncClient(raise_request_exception=False)

    assert async_to_sync(client.get)(page).status_code == status

    assert stored(connection).token.refresh_token == "refresh-1"
    assert len(scripted.asked("/token")) == 1


# --- the tests of a site --------------------------------------------------------------------------


class OfASite:
    """What a site would write of its own code, over this package's rows."""

    def setUp(self) -> None:
        self.server = ScriptedServer()
        self.server.on("/token", Answer(body=FRESH))
        self.server.on("/api/me", Answer(body={"login": "grace"}))
        entry = {
            "client_id": "client",
            "client_secret": "secret",
            "authorization_endpoint": f"{self.server.url}/authorize",
            "token_endpoint": f"{self.server.url}/token",
            "api_base_url": f"{self.server.url}/api/",
        }
        self.settings_changed = override_settings(OAUTH_CONNECT=configured(entry))
        self.settings_changed.enable()
        user = get_user_model().objects.create_user(username="grace")
        old = {**FRESH, "access_token": "access-0", "refresh_token": "refresh-0"}
        self.connection = Connection.objects.store(owner=user, provider="scripted", token_response=old)

    def tearDown(self) -> None:
        self.settings_changed.disable()
        self.server.close()

    def test_a_call_and_a_refresh(self) -> None:
        assert self.connection.session().get("me").json() == {"login": "grace"}
        self.connection.refresh()
        assert stored(self.connection).token.refresh_token == "refresh-1"
        assert len(self.server.asked("/token")) == 1

    def test_within_a_transaction_of_its_own(self) -> None:
        with transaction.atomic():
            self.connection.refresh()
        wait_for_follow_ups()
        assert Connection.objects.get().version == 1, "and nothing of another test is here"


class TestInATestCase(OfASite, TestCase):
    def test_nothing_leaves_its_transaction(self) -> None:
        self.connection.refresh()
        with transaction.atomic():
            self.connection.refresh()
            transaction.set_rollback(True)
        assert stored(self.connection).version == 1, "rolled back with its block, as a test would expect"
        assert not hasattr(connections._connections, "default:oauth_connect")  # type: ignore[attr-defined]
        assert FOLLOW_UP_THREAD not in {thread.name for thread in threading.enumerate()}


class TestInATransactionTestCase(OfASite, TransactionTestCase):
    pass


def configured(entry: dict[str, Any]) -> dict[str, Any]:
    return {**settings.OAUTH_CONNECT, "PROVIDERS": {"scripted": entry}}


# --- what a refresh that failed has found out -----------------------------------------------------


@transactional
@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (
            Answer(400, {"error": "invalid_grant"}),
            {"status": REAUTHORIZATION_REQUIRED, "last_error": "revoked"},
        ),
        (Answer(503), {"status": ACTIVE, "last_error": "http_503", "in_doubt": False, "failures": 1}),
        (Answer(body=FRESH, cut=9), {"status": ACTIVE, "in_doubt": True, "failures": 1}),
    ],
    ids=["refused", "ill", "answer lost"],
)
def test_what_a_failed_refresh_found_out_outlives_the_rollback_that_its_error_causes(
    scripted, scripted_provider, make_connection, answer, found
):
    scripted.on("/token", answer)
    connection = make_connection(age=EXPIRED)
    for _ in range(3):
        with pytest.raises(CallError), transaction.atomic():
            stored(connection).access_token()
        wait_for_follow_ups()
        prolong_back_off(connection)

    row = raw(connection).get()
    assert {name: getattr(row, name) for name in found} == found
    assert row.lease_owner == ""
    assert len(scripted.asked("/token")) == 1


@transactional
def test_what_a_failed_refresh_found_out_is_not_counted_twice_after_a_commit(
    scripted, scripted_provider, make_connection
):
    scripted.on("/token", Answer(503))
    connection = make_connection(age=EXPIRED)
    with transaction.atomic(), pytest.raises(ProviderUnavailable):
        connection.access_token()
    wait_for_follow_ups()
    assert raw(connection).get().failures == 1


@transactional
def test_a_loss_inside_a_transaction_that_was_rolled_back_is_reported(
    scripted, scripted_provider, make_connection
):
    scripted.on("/token", Answer(body=FRESH, cut=9), Answer(400, {"error": "invalid_grant"}))
    connection = make_connection(age=EXPIRED)
    with pytest.raises(ProviderUnavailable), transaction.atomic():
        connection.access_token()
    wait_for_follow_ups()

    with pytest.raises(ReauthorizationRequired) as caught:
        stored(connection).refresh()
    assert caught.value.reason == "rotation_lost"


@transactional
@pytest.mark.vendor("postgresql", "mysql")
def test_a_row_that_only_the_callers_snapshot_still_shows_is_gone(
    scripted, scripted_provider, make_connection, calls_at_once
):
    connection = make_connection(age=EXPIRED)
    with repeatable_read():
        assert Connection.objects.get(pk=connection.pk).version == 0
        calls_at_once(1, lambda: raw(connection).delete())

        with pytest.raises(ReauthorizationRequired) as caught:
            connection.access_token()
        assert caught.value.reason == "disconnected"
        assert get_user_model().objects.count() == 1  # the caller's transaction goes on

    assert not scripted.requests


# --- what goes along with a refresh ---------------------------------------------------------------


INSTANCES = {
    "api_base_url": "https://{instance}.example.com/",
    "api_hosts": [],
    "variables": {"instance": {"source": "token_response", "field": "instance", "pattern": "[a-z]+"}},
}


@transactional
def test_an_alarm_outlives_the_rollback_that_its_own_error_causes(
    scripted, scripted_provider, make_connection, caplog
):
    scripted.on("/token", Answer(401, {"error": "invalid_client"}))
    for connection in [make_connection(age=EXPIRED) for _ in range(3)]:
        with pytest.raises(ProviderMisconfigured), transaction.atomic():
            connection.refresh()
        wait_for_follow_ups()

    assert ProviderState.objects.get().alarm == "invalid_client"
    actions = [getattr(record, "action", "") for record in caplog.records]
    assert actions.count("provider_misconfigured") == 1


@transactional
@pytest.mark.vendor("postgresql", "mysql")
def test_an_alarm_inside_a_transaction_blocks_no_other_caller(
    scripted, scripted_provider, make_connection, calls_at_once, caplog
):
    """SQLite has one writer for everything."""
    scripted.on("/token", Answer(401, {"error": "invalid_client"}))
    one, other = make_connection(age=EXPIRED), make_connection(age=EXPIRED)

    with transaction.atomic():
        with pytest.raises(ProviderMisconfigured):
            one.access_token()
        (alarm,) = calls_at_once(1, lambda: ProviderState.objects.get().alarm)
        (met,) = calls_at_once(1, other.access_token)

    assert alarm == "invalid_client", "committed before the transaction has ended"
    assert isinstance(met, ProviderMisconfigured)
    # Where it waits for the transaction, it does so until its statement is given up.
    assert "alarm_failed" not in [getattr(record, "action", "") for record in caplog.records]


@transactional
def test_the_host_that_an_answer_names_shares_the_fate_of_its_token(
    scripted, scripted_entry, configure, make_connection
):
    configure(PROVIDERS={"scripted": {**scripted_entry, **INSTANCES}})
    scripted.on("/token", Answer(body={**FRESH, "instance": "new"}))
    connection = make_connection(age=EXPIRED, variables={"instance": "old"})

    with transaction.atomic():
        connection.access_token()
        assert connection.variables == {"instance": "new"}
        transaction.set_rollback(True)
    wait_for_follow_ups()

    kept = stored(connection)
    assert (kept.version, kept.variables) == (1, {"instance": "new"})


@transactional
@pytest.mark.vendor("postgresql", "mysql")
def test_the_host_that_an_answer_names_leaves_the_row_free(
    scripted, scripted_entry, configure, make_connection, calls_at_once
):
    configure(PROVIDERS={"scripted": {**scripted_entry, **INSTANCES}})
    scripted.on("/token", Answer(body={**FRESH, "instance": "new"}))
    connection = make_connection(age=EXPIRED, variables={"instance": "old"})

    with transaction.atomic():
        connection.access_token()
        (met,) = calls_at_once(1, lambda: stored(connection).refresh())

    assert met is None
    assert stored(connection).version == 2


@transactional
def test_a_row_that_is_read_again_in_the_same_transaction_has_the_host_of_its_token(
    scripted, scripted_entry, configure
):
    configure(PROVIDERS={"scripted": {**scripted_entry, **INSTANCES}})
    scripted.on("/token", Answer(body={**FRESH, "instance": "new"}))
    with transaction.atomic():
        assert [machine_connection("scripted").variables for _ in range(2)] == [{"instance": "new"}] * 2
    wait_for_follow_ups()
    assert Connection.objects.get().variables == {"instance": "new"}
    assert len(scripted.asked("/token")) == 1


@transactional
@pytest.mark.vendor("postgresql", "mysql")
def test_a_token_issued_for_a_row_that_only_the_snapshot_still_shows_is_revoked(
    scripted, scripted_provider, make_connection, monkeypatch, calls_at_once
):
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/revoke", Answer(200))
    connection = make_connection(age=EXPIRED)
    refresh = AuthorizationServer.refresh

    def deleted_meanwhile(*args: Any, **options: Any) -> Any:
        calls_at_once(1, lambda: raw(connection)._raw_delete("default"))
        return refresh(*args, **options)

    monkeypatch.setattr(AuthorizationServer, "refresh", deleted_meanwhile)
    with repeatable_read(), pytest.raises(ReauthorizationRequired):
        Connection.objects.get(pk=connection.pk).access_token()

    assert [request.form["token"] for request in scripted.asked("/revoke")] == ["refresh-1"]
    assert not PendingRevocation.objects.exists()
