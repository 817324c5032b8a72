"""A run over the due rows with several workers and one writer, and the events that must lose no token."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError, transaction
from django.db import connection as database
from django.db.backends.signals import connection_created

from oauth_connect import signals
from oauth_connect.engine.store import Event
from oauth_connect.errors import ConnectionLocked
from oauth_connect.jobs.refresh import worker_pool
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.run import SequentialRun, refresh_due
from oauth_connect.models import Connection, ConnectionEvent, ProviderState
from oauth_connect.models.lifecycle import access, provider_health
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.stores import batch
from oauth_connect.stores.batch import Leases, Saves
from oauth_connect.stores.row import RowStore
from tests.faults.held import held_by_another
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.follow_ups import wait_for_follow_ups
from tests.support.threads import meanwhile
from tests.support.tokens import EXPIRED, FRESH, rows
from tests.support.waiting import Tally, eventually

pytestmark = pytest.mark.django_db(transaction=True)


def outcomes(run: Any) -> Counter[str]:
    return Counter(result.outcome for result in run)


@pytest.fixture
def other(scripted_entry: Any, configure: Any) -> Iterator[ScriptedServer]:
    """A second provider, at a server of its own."""
    server = ScriptedServer()
    endpoint = f"{server.url}/token"
    configure(PROVIDERS={"scripted": scripted_entry, "other": {**scripted_entry, "token_endpoint": endpoint}})
    server.on("/token", Answer(body=FRESH))
    yield server
    server.close()


# --- each row once, and saved ---------------------------------------------------------------------


@pytest.mark.compliance("D52")
def test_two_runs_of_many_workers_spend_each_refresh_token_once(rotating, many, calls_at_once):
    due = many(60)

    runs = calls_at_once(2, lambda: outcomes(refresh_due(Due(), workers=8)))

    assert sum(run["refreshed"] for run in runs) == 60
    assert rotating.spent == {f"row{number}-0": 1 for number in range(60)}
    for number, connection in enumerate(due):
        row = Connection.objects.get(pk=connection.pk)
        assert row.token.refresh_token == f"row{number}-1"
        assert (row.version, row.lease_owner, row.failures, row.in_doubt) == (1, "", 0, False)
        assert row.refresh_at is not None
        assert row.refresh_at > datetime.now(UTC)


def test_a_run_saves_the_very_columns_that_a_single_refresh_does(
    scripted, scripted_provider, make_connection
):
    scripted.on("/token", Answer(body={**FRESH, "scope": "read", "refresh_token_expires_in": 9999}))
    alone, among = make_connection(age=EXPIRED), make_connection(age=EXPIRED)
    alone.refresh()
    outcomes(refresh_due(Due(), workers=2))

    def kept(connection: Connection) -> dict[str, Any]:
        differ = {"id", "account_id", "identity", "sealed_token", "lease_until", "created_at", "updated_at"}
        values = rows().values().get(pk=connection.pk)
        moments = {"expires_at", "refresh_at", "refresh_token_expires_at", "last_refreshed_at"}
        return {
            name: value is not None if name in moments else value
            for name, value in values.items()
            if name not in differ
        }

    assert kept(among) == kept(alone)


def test_the_instance_that_receivers_get_is_the_row_that_was_saved(rotating, many):
    many(3)
    seen: list[tuple[Any, ...]] = []

    def receive(connection: Connection, **_: Any) -> None:
        row = Connection.objects.get(pk=connection.pk)
        seen.append((row.token == connection.token, row.version == connection.version, row.refresh_at))
        assert row.refresh_at == connection.refresh_at

    signals.refreshed.connect(receive)
    try:
        outcomes(refresh_due(Due()))
    finally:
        signals.refreshed.disconnect(receive)
    assert [pair[:2] for pair in seen] == [(True, True)] * 3


def test_a_claim_that_others_won_is_repeated(rotating, many, monkeypatch):
    many(3)
    real, calls = worker_pool.claim_due, []

    def claim_due(*arguments: Any, **options: Any) -> Leases:
        calls.append(1)
        lost = Leases(Connection, "default", "owner", 0.0, {}, count=0, exhausted=False)
        return lost if len(calls) == 1 else real(*arguments, **options)

    monkeypatch.setattr(worker_pool, "claim_due", claim_due)
    assert outcomes(refresh_due(Due(), workers=2)) == {"refreshed": 3}


def test_rows_that_are_connected_again_right_after_their_claim_are_left_and_the_others_refreshed(
    rotating, many, monkeypatch
):
    many(5)
    real, claims = worker_pool.claim_due, []

    def claim_due(*arguments: Any, **options: Any) -> Leases:
        leases = real(*arguments, **options)
        if not claims:
            rows().filter(lease_owner=leases.owner).update(lease_owner="", version=7)
        claims.append(leases.count)
        return leases

    monkeypatch.setattr(worker_pool, "claim_due", claim_due)
    assert outcomes(refresh_due(Due(), workers=1)) == {"refreshed": 2}
    assert claims[0] == 3
    assert rows().filter(version=7).count() == 3


def test_if_the_claimed_rows_cannot_be_read_their_leases_are_released(rotating, many, monkeypatch):
    many(3)

    def lose(*_: Any) -> None:
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(worker_pool, "read_claimed", lose)
    due = dict(rows().values_list("pk", "refresh_at"))
    with pytest.raises(OperationalError):
        outcomes(refresh_due(Due()))
    assert dict(rows().filter(lease_owner="").values_list("pk", "refresh_at")) == due
    assert rotating.spent == {}


def test_claimed_rows_are_read_in_parts_so_that_saves_need_not_wait_for_all(rotating, many, monkeypatch):
    many(7)
    read: list[int] = []

    def read_claimed(leases: Leases, keys: Sequence[Any]) -> Any:
        read.append(len(keys))
        return batch.read_claimed(leases, keys)

    monkeypatch.setattr(batch, "READ_BATCH", 3)
    monkeypatch.setattr(worker_pool, "read_claimed", read_claimed)
    assert outcomes(refresh_due(Due(), workers=3)) == {"refreshed": 7}
    assert read == [3, 3, 1]


def test_a_run_of_many_workers_opens_one_database_connection_more(rotating, many):
    many(30)
    opened: list[str] = []

    def note(connection: Any, **_: Any) -> None:
        opened.append(threading.current_thread().name)

    connection_created.connect(note)
    try:
        outcomes(refresh_due(Due(), workers=16))
    finally:
        connection_created.disconnect(note)
    assert opened == ["oauth_connect-writer"]


def test_each_refresh_is_in_the_history(rotating, many):
    due = many(5)
    outcomes(refresh_due(Due()))
    entries = ConnectionEvent.objects.filter(action="refreshed").values_list("connection_id", flat=True)
    assert sorted(entries) == sorted(row.pk for row in due)


def test_in_a_transaction_rows_are_refreshed_one_at_a_time_and_a_rollback_loses_nothing(rotating, many):
    many(2)

    def work() -> None:
        assert outcomes(refresh_due(Due(), workers=8)) == {"refreshed": 2}
        raise RuntimeError

    with pytest.raises(RuntimeError), transaction.atomic():
        work()
    wait_for_follow_ups()
    assert list(Connection.objects.values_list("version", flat=True)) == [1, 1]


@pytest.mark.vendor("postgresql", "mysql")  # SQLite has one lock for the whole file
def test_a_run_that_is_iterated_in_a_later_transaction_shares_nothing_with_it(rotating, many):
    due = many(3)
    run = refresh_due(Due(), workers=2)
    with transaction.atomic():
        assert outcomes(run) == {"refreshed": 3}
        transaction.set_rollback(True)
    assert {rows().get(pk=one.pk).version for one in due} == {1}
    assert ConnectionEvent.objects.filter(action="refreshed").count() == 3


@pytest.mark.django_db(transaction=False)
def test_a_test_case_of_a_site_can_run_it(scripted, scripted_provider, make_connection):
    scripted.on("/token", Answer(body=FRESH))
    make_connection(age=EXPIRED)
    assert outcomes(refresh_due(Due(), workers=8)) == {"refreshed": 1}


def test_only_the_connections_asked_for(rotating, many, make_connection, other_user):
    first, second, _ = many(3)
    other = make_connection(
        "rotating", age=EXPIRED, owner=other_user, response={**FRESH, "refresh_token": "o-0"}
    )
    assert outcomes(refresh_due(Due(pks=[first.pk, str(second.pk)]))) == {"refreshed": 2}
    assert outcomes(refresh_due(Due(owner=other_user))) == {"refreshed": 1}
    assert Connection.objects.get(pk=other.pk).version == 1


# --- stopping -------------------------------------------------------------------------------------


def test_a_stopped_iteration_releases_what_was_not_sent_and_loses_nothing(rotating, many):
    due = many(20)
    for _ in refresh_due(Due(), workers=2):
        break

    spent = rotating.spent
    assert 1 <= len(spent) < 20
    before = {row.pk: row.refresh_at for row in due}
    for row in Connection.objects.all():
        assert row.lease_owner == ""
        if row.version == 0:
            assert row.refresh_at == before[row.pk]
    assert Connection.objects.filter(version=1).count() == len(spent)
    assert outcomes(refresh_due(Due()))["refreshed"] == 20 - len(spent)


def test_a_stop_finishes_the_requests_in_flight(scripted, scripted_provider, make_connection):
    hold = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=hold))
    for _ in range(6):
        make_connection(age=EXPIRED)
    run = refresh_due(Due(), workers=2)

    def stop() -> None:
        scripted.wait_for("/token", 2)
        run.stop()
        hold.set()

    with meanwhile(stop):
        assert outcomes(run) == {"refreshed": 2}
    assert Connection.objects.filter(lease_owner="", version=0).count() == 4


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_a_run_that_can_claim_no_more_reports_all_it_has_started(rotating, many, monkeypatch, error):
    many(10)
    real, claims, reported = worker_pool.claim_due, [], []

    def claim_due(*arguments: Any, **options: Any) -> Leases:
        claims.append(1)
        if len(claims) > 1:
            raise error("the connection is lost")
        return real(*arguments, **options)

    def listen() -> None:
        for result in refresh_due(Due(), workers=1):
            reported.append(result.outcome)

    monkeypatch.setattr(worker_pool, "claim_due", claim_due)
    with pytest.raises(error):
        listen()
    assert Connection.objects.filter(version=1, lease_owner="").count() == len(reported) > 1


def test_if_a_batch_cannot_be_saved_each_row_is_saved_alone(rotating, many, monkeypatch):
    """The rows are more than the pool has places for unfinished jobs."""

    def fail(*_: Any) -> bool:
        raise OperationalError("not together")

    monkeypatch.setattr(Saves, "run", fail)
    many(70)
    assert outcomes(refresh_due(Due(), workers=2)) == {"refreshed": 70}
    assert rotating.spent == {f"row{number}-0": 1 for number in range(70)}
    assert Connection.objects.filter(version=1, lease_owner="").count() == 70


@pytest.mark.vendor("postgresql", "mysql")  # SQLite has one lock for the whole file
def test_a_row_locked_while_its_response_arrives_is_saved_once_free_and_the_others_before(
    scripted, scripted_provider, make_connection
):
    hold = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=hold))
    due = [make_connection(age=EXPIRED) for _ in range(3)]
    saved: list[Any] = []

    def note(connection: Connection, **_: Any) -> None:
        saved.append(connection.pk)

    signals.refreshed.connect(note)
    try:
        with meanwhile(lambda: outcomes(refresh_due(Due()))):
            scripted.wait_for("/token", 3)
            with held_by_another(due[0]):
                hold.set()
                eventually(lambda: len(saved) >= 2, "two saved while the other row is locked")
                assert set(saved) == {due[1].pk, due[2].pk}
    finally:
        signals.refreshed.disconnect(note)
    assert set(Connection.objects.values_list("version", flat=True)) == {1}


def test_a_received_token_is_saved_although_reports_of_others_fail_repeatedly(
    scripted, other, make_connection, monkeypatch
):
    """The first save fails too, and no thread iterates any more, so that none waits for the next save.

    This is the state after the others are reported. All of them are in flight before the first response.
    """
    other.on("/token", Answer(400, {"error": "invalid_scope"}, until=lambda: other.wait_for("/token", 3)))
    for _ in range(3):
        make_connection("other", age=EXPIRED)
    scripted.on("/token", Answer(body=FRESH))
    connection = make_connection(age=EXPIRED)
    publish, save, failed = access.publish, Saves.run, Tally("a report of another failed")

    def failing_publish(published: Connection, event: Event) -> None:
        if published.provider == "other":
            failed.add()
            raise RuntimeError("of a receiver")
        publish(published, event)

    def saving(self: Saves, saves: Any) -> bool:
        failed.wait_for(3)
        monkeypatch.setattr(Saves, "run", save)
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(access, "publish", failing_publish)
    monkeypatch.setattr(Saves, "run", saving)
    with pytest.raises(RuntimeError, match="of a receiver"):
        outcomes(refresh_due(Due(), workers=8))
    row = Connection.objects.get(pk=connection.pk)
    assert (row.version, row.token.refresh_token, row.lease_owner) == (1, "refresh-1", "")
    assert ConnectionEvent.objects.filter(action="refreshed").count() == 1


@pytest.mark.parametrize("run", [SequentialRun, partial(refresh_due, workers=1)])
@pytest.mark.parametrize("error", [ConnectionLocked("no connection got free"), InterfaceError("closed")])
def test_a_row_that_cannot_be_deferred_stops_nothing(
    scripted, scripted_provider, make_connection, monkeypatch, error, run
):
    """Another client obtained the token of that row, so the run cannot refresh it and defers it."""
    scripted.on("/token", Answer(body=FRESH))
    foreign, _ = make_connection(age=EXPIRED * 2), make_connection(age=EXPIRED)
    rows().filter(pk=foreign.pk).update(client_id="another")

    def defer(*_: Any) -> None:
        raise error

    monkeypatch.setattr(RowStore, "defer", defer)
    assert outcomes(run(Due())) == {"reauthorization_required": 1, "refreshed": 1}


# --- providers that fail --------------------------------------------------------------------------


def test_a_hung_provider_holds_up_no_other(scripted, other, make_connection, configure):
    configure(HTTP_TIMEOUT=50)
    hold = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=hold))
    for _ in range(12):
        make_connection("scripted", age=EXPIRED)
        make_connection("other", age=EXPIRED)
    run = iter(refresh_due(Due(), workers=4))
    try:
        first = [next(run) for _ in range(12)]
    finally:
        hold.set()
    assert {(result.provider, result.outcome) for result in first} == {("other", "refreshed")}
    outcomes(run)


class InStep:
    """Answers a request only after the iterating thread has the results of the requests before it."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.known = Tally("a result was known")

    def up(self) -> None:
        self.known.wait_for(len(self.server.asked("/token")) - 1)

    def of(self, run: Any, provider: str) -> Iterator[Any]:
        for result in run:
            if result.provider == provider:
                self.known.add()
            yield result


def test_after_five_failures_in_a_row_every_run_skips_the_provider(scripted, other, make_connection):
    keeping = InStep(scripted)
    scripted.on("/token", Answer(503, until=keeping.up))
    for _ in range(20):
        make_connection("scripted", age=EXPIRED)
        make_connection("other", age=EXPIRED)

    results = keeping.of(refresh_due(Due(), workers=2), "scripted")
    found = Counter((result.provider, result.outcome) for result in results)

    assert found["other", "refreshed"] == 20
    assert 5 <= found["scripted", "unavailable"] <= 8
    assert len(scripted.asked("/token")) == found["scripted", "unavailable"]
    state = ProviderState.objects.get()
    assert state.blocked_until > datetime.now(UTC)
    assert not rows().exclude(lease_owner="").exists()
    # A row that was not sent is due as before, but no run sends it before the back-off has passed.
    assert Due().of("scripted").count() >= 20 - found["scripted", "unavailable"]
    assert outcomes(refresh_due(Due(), workers=2)) == {}


@pytest.mark.parametrize("error", [InterfaceError("closed"), RuntimeError("the vault is shut")])
def test_a_back_off_that_cannot_be_written_stops_nothing(
    scripted, other, make_connection, monkeypatch, error
):
    def back_off(*_: Any) -> None:
        raise error

    scripted.on("/token", Answer(503))
    for _ in range(6):
        make_connection("scripted", age=EXPIRED)
        make_connection("other", age=EXPIRED)
    monkeypatch.setattr(provider_health, "back_off", back_off)
    found = outcomes(refresh_due(Due(), workers=2))
    assert found["refreshed"] == 6
    assert found["unavailable"] >= 5


def test_a_back_off_ends_with_its_time_or_with_other_settings_and_a_success_forgets_it(
    scripted, scripted_entry, configure, make_connection
):
    configure(PROVIDERS={"scripted": scripted_entry})
    keeping = InStep(scripted)
    scripted.on("/token", Answer(401, {"error": "invalid_client"}, until=keeping.up))
    for _ in range(8):
        make_connection(age=EXPIRED)
    met = outcomes(keeping.of(refresh_due(Due(), workers=1), "scripted"))["misconfigured"]
    assert 5 <= met <= 7
    assert ProviderState.objects.get().alarm == "invalid_client"
    assert outcomes(refresh_due(Due(), workers=1)) == {}
    scripted.on("/token", Answer(body=FRESH))

    configure(PROVIDERS={"scripted": {**scripted_entry, "client_secret": "another"}})
    assert outcomes(refresh_due(Due(), workers=1)) == {"refreshed": 8 - met}
    state = ProviderState.objects.get()
    assert (state.failures, state.blocked_until) == (0, None)

    # The rows that met the error are in their own back-off. The first success among them ends the alarm.
    rows().update(refresh_at=datetime.now(UTC) - timedelta(minutes=1))
    outcomes(refresh_due(Due(), workers=1))
    assert ProviderState.objects.get().alarm == ""


def test_a_provider_gets_no_more_parallel_requests_than_its_entry_says(
    scripted, scripted_entry, configure, make_connection
):
    configure(PROVIDERS={"scripted": {**scripted_entry, "refresh": {"at_once": 2}}})
    hold = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=hold))
    for _ in range(6):
        make_connection(age=EXPIRED)
    run = refresh_due(Due(), workers=8)
    most: list[int] = []

    def watch() -> None:
        scripted.wait_for("/token", 2)
        time.sleep(0.3)  # a third would arrive immediately
        most.append(len(scripted.asked("/token")))
        hold.set()

    with meanwhile(watch):
        assert outcomes(run) == {"refreshed": 6}
    assert most == [2]


# --- rows that others use ---------------------------------------------------------------------------


@pytest.mark.vendor("postgresql", "mysql")  # SQLite has one lock for the whole file
def test_a_row_locked_by_a_transaction_is_skipped_and_the_others_are_refreshed(rotating, many):
    due = many(4)
    with held_by_another(due[1]):
        assert outcomes(refresh_due(Due(), workers=2)) == {"refreshed": 3}
    assert outcomes(refresh_due(Due(), workers=2)) == {"refreshed": 1}


@pytest.fixture
def before_the_request(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call a function once, after a worker has claimed a lease and before it sends its request."""
    refresh = AuthorizationServer.refresh

    def arrange(call: Any) -> None:
        pending = [call]

        def interrupted(self: AuthorizationServer, *args: Any, **kwargs: Any) -> Any:
            if pending:
                pending.pop()()
                database.close()
            return refresh(self, *args, **kwargs)

        monkeypatch.setattr(AuthorizationServer, "refresh", interrupted)

    return arrange


def test_a_reconnect_during_a_run_wins(scripted, scripted_provider, make_connection, before_the_request):
    scripted.on("/token", Answer(body=FRESH))
    connection = make_connection(age=EXPIRED, account_id="same")
    again = {"access_token": "new", "refresh_token": "refresh-new", "token_type": "Bearer"}
    before_the_request(lambda: make_connection(account_id="same", response=again))
    assert outcomes(refresh_due(Due())) == {"not_needed": 1}
    row = Connection.objects.get(pk=connection.pk)
    assert row.token.refresh_token == "refresh-new"
    assert row.lease_owner == ""


@pytest.mark.compliance("D46")
@pytest.mark.parametrize("ending", ["deleted", "disconnected"])
def test_a_token_issued_for_a_deleted_row_is_revoked(
    scripted, scripted_provider, make_connection, before_the_request, ending
):
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/revoke", Answer(200))
    connection = make_connection(age=EXPIRED)

    def end() -> None:
        present = Connection.objects.get(pk=connection.pk)
        present.delete() if ending == "deleted" else present.disconnect()

    before_the_request(end)
    assert outcomes(refresh_due(Due())) == {"not_needed": 1}
    assert "refresh-1" in [request.form["token"] for request in scripted.asked("/revoke")]
    assert not Connection.objects.filter(status="active").exists()


def test_a_lost_response_in_a_run_differs_from_a_revocation(scripted, scripted_provider, make_connection):
    connection = make_connection(age=EXPIRED)
    scripted.on("/token", Answer(body=FRESH, cut=-1), Answer(400, {"error": "invalid_grant"}))
    assert outcomes(refresh_due(Due())) == {"unavailable": 1}
    rows().update(refresh_at=datetime.now(UTC) - timedelta(minutes=1))
    assert outcomes(refresh_due(Due())) == {"reauthorization_required": 1}
    assert Connection.objects.get(pk=connection.pk).last_error == "rotation_lost"


def test_a_lease_that_waited_too_long_for_a_worker_sends_nothing_and_stays_due(
    scripted, scripted_provider, make_connection, monkeypatch
):
    scripted.on("/token", Answer(body=FRESH))
    make_connection(age=EXPIRED)
    run = refresh_due(Due())
    original = worker_pool.claim_due

    def long_ago(*args: Any, **kwargs: Any) -> Any:
        leases = original(*args, **kwargs)
        monkeypatch.setattr(worker_pool, "claim_due", original)
        return replace(leases, claimed_at=leases.claimed_at - 11)

    monkeypatch.setattr(worker_pool, "claim_due", long_ago)
    assert outcomes(run) == {"not_needed": 1}
    assert scripted.asked("/token") == []
    assert Due().of("scripted").count() == 1
    assert not rows().exclude(lease_owner="").exists()
