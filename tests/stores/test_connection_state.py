"""State of the caller's database connection is carried to every connection that a refresh uses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections, transaction
from django.db import connection as database

from oauth_connect.jobs.refresh import Due, refresh_due
from oauth_connect.models import Connection
from oauth_connect.stores import row as row_module
from oauth_connect.stores.connection_state import MARK, State, carried, read_state
from oauth_connect.stores.row import RowStore
from oauth_connect.stores.transactions import own_transaction
from tests.servers.scripted import Answer
from tests.support.follow_ups import wait_for_follow_ups
from tests.support.tokens import EXPIRED, FRESH, rows, stored

pytestmark = pytest.mark.django_db(transaction=True)


class Hooks:
    """State as an attribute of Django's connection object, and a record of each call."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.writes: list[tuple[str, str]] = []
        self.failures = 0

    def read(self, connection: Any) -> Any:
        self.reads.append(threading.current_thread().name)
        return getattr(connection, "tenant", None)

    def write(self, connection: Any, value: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise ZeroDivisionError("a fault of the site")
        self.writes.append((threading.current_thread().name, connection.alias))
        connection.tenant = value


@pytest.fixture
def hooks(configure: Callable[..., None], scripted: Any, scripted_provider: Any) -> Iterator[Hooks]:
    """The setting, with the caller's connection in the state "acme"."""
    scripted.on("/token", Answer(body=FRESH))
    hooks = Hooks()
    configure(CONNECTION_STATE=(hooks.read, hooks.write))
    database.tenant = "acme"
    yield hooks
    wait_for_follow_ups()
    del database.tenant


def refresh_in_a_transaction(connection: Connection) -> None:
    with transaction.atomic():
        connection.access_token()


def refresh_in_a_run(connection: Connection) -> None:
    assert [result.outcome for result in refresh_due(Due())] == ["refreshed"]


def refresh_in_async_code(connection: Connection) -> None:
    """Enter the tenant in the thread of Django's async queries, as a middleware does, then refresh."""
    tenant = database.tenant

    def enter() -> None:
        connections["default"].ensure_connection()
        connections["default"].tenant = tenant

    async def view() -> None:
        await sync_to_async(enter)()
        try:
            await connection.aaccess_token()
        finally:
            await sync_to_async(connections.close_all)()

    asyncio.run(view())


def refresh_alone(connection: Connection) -> None:
    connection.access_token()


WAYS = [refresh_in_a_transaction, refresh_in_a_run, refresh_in_async_code]


# --- the state arrives ----------------------------------------------------------------------------


@pytest.mark.parametrize("refresh", WAYS)
def test_each_connection_of_a_refresh_gets_the_state_that_was_read_once(hooks, make_connection, refresh):
    connection = make_connection(age=EXPIRED)
    hooks.reads.clear()
    refresh(connection)
    wait_for_follow_ups()
    assert len(hooks.reads) == 1
    assert hooks.writes
    assert stored(connection).token.refresh_token == "refresh-1"


def test_outside_a_transaction_the_callers_connection_is_used_as_it_is(hooks, make_connection):
    make_connection(age=EXPIRED).access_token()
    assert hooks.writes == []


def test_the_writer_and_the_workers_that_use_a_connection_get_the_state(hooks, make_connection, configure):
    seen = []

    def loader(slug: str, owner: str) -> None:
        Connection.objects.count()
        seen.append(getattr(connections["default"], "tenant", None))

    configure(PROVIDER_LOADER=loader)
    refresh_in_a_run(make_connection(age=EXPIRED))
    assert set(seen) == {"acme"}
    assert {name for name, _ in hooks.writes} == {"oauth_connect-writer", "oauth_connect-refresh-0"}


def test_nothing_to_carry_is_written_nowhere(hooks, make_connection):
    database.tenant = None
    for refresh in WAYS:
        refresh(make_connection(age=EXPIRED))
    wait_for_follow_ups()
    assert hooks.writes == []


def test_without_the_setting_nothing_is_read(make_connection, scripted_provider):
    assert read_state("default") == State(None)
    assert RowStore(make_connection(), on_event=print, on_orphan=print).key[-1] == State(None)


def test_the_state_is_written_again_after_each_reconnect(hooks):
    with carried("default", read_state("default")):
        for _ in range(2):
            Connection.objects.count()
            assert connections["default"].tenant == "acme"
            connections["default"].close()
    assert len(hooks.writes) == 2


def test_a_threads_own_connection_is_closed_and_its_usual_one_is_back(hooks):
    usual = connections["default"]
    with carried("default", read_state("default")):
        own = connections["default"]
        Connection.objects.count()
    assert connections["default"] is usual is not own
    assert own.connection is None


def test_in_a_thread_with_carried_state_the_sites_function_is_not_asked_again(hooks):
    with carried("default", read_state("default")):
        assert read_state("default") == State("acme")
    database.tenant = None
    with carried("default", read_state("default")):
        assert read_state("default") == State(None)
    assert len(hooks.reads) == 2


def test_rows_of_one_key_in_two_tenants_do_not_share_a_refresh(hooks, make_connection):
    connection = make_connection()
    one = RowStore(connection, on_event=print, on_orphan=print).key
    database.tenant = "other"
    other = RowStore(connection, on_event=print, on_orphan=print).key
    database.tenant = "acme"
    assert one != other
    assert one == RowStore(connection, on_event=print, on_orphan=print).key


def test_a_save_that_opens_the_callers_connection_again_writes_the_state_first(
    hooks, make_connection, monkeypatch
):
    monkeypatch.setattr(row_module, "SAVE_PAUSES", (0.0, 0.0))
    connection = make_connection(age=EXPIRED)
    save, states = RowStore._save, []

    def lost_once(store: RowStore, *arguments: Any) -> Any:
        states.append(getattr(database, "tenant", None))
        if len(states) == 1:
            del database.tenant  # as the session of the database would lose it
            raise OperationalError("the server went away")
        return save(store, *arguments)

    monkeypatch.setattr(RowStore, "_save", lost_once)
    assert connection.access_token() == "access-1"
    assert states == ["acme", "acme"]


# --- bad functions --------------------------------------------------------------------------------


@pytest.mark.parametrize("refresh", [refresh_alone, *WAYS])
def test_a_value_that_is_not_hashable_is_refused_before_anything_is_sent(
    hooks, scripted, make_connection, refresh
):
    connection = make_connection(age=EXPIRED)
    database.tenant = ["a", "list"]
    with pytest.raises(ImproperlyConfigured, match=r"CONNECTION_STATE.*list.*hashable"):
        refresh(connection)
    assert scripted.requests == []
    assert not rows().exclude(lease_owner="").exists()


@pytest.mark.parametrize("refresh", [refresh_alone, *WAYS])
def test_an_error_of_read_reaches_the_caller_and_nothing_is_sent(
    hooks, scripted, make_connection, configure, refresh
):
    def read(connection: Any) -> Any:
        raise ZeroDivisionError("a fault of the site")

    connection = make_connection(age=EXPIRED)
    configure(CONNECTION_STATE=(read, hooks.write))
    with pytest.raises(ZeroDivisionError):
        refresh(connection)
    assert scripted.requests == []
    assert not rows().exclude(lease_owner="").exists()


@pytest.mark.parametrize("refresh", [refresh_in_a_run, refresh_in_async_code])
def test_an_error_of_write_is_a_database_error_and_nothing_is_sent(hooks, scripted, make_connection, refresh):
    connection = make_connection(age=EXPIRED)
    hooks.failures = 100
    with pytest.raises(OperationalError, match=r"CONNECTION_STATE.*write failed.*ZeroDivisionError"):
        refresh(connection)
    assert scripted.requests == []
    # The claim was on the caller's connection. It is due as before.
    assert rows().get(pk=connection.pk).lease_owner == ""
    assert rows().get(pk=connection.pk).refresh_at == connection.refresh_at


def test_a_connection_whose_state_could_not_be_written_is_closed(hooks):
    hooks.failures = 1
    with pytest.raises(OperationalError), own_transaction("default", 2.0, read_state("default")):
        pass
    assert not hasattr(connections._connections, "default:oauth_connect")
    hooks.failures = 1
    with carried("default", read_state("default")):
        with pytest.raises(OperationalError):
            Connection.objects.count()
        assert connections["default"].connection is None
        assert Connection.objects.count() == 0
        assert connections["default"].tenant == "acme"


@pytest.mark.parametrize("refresh", WAYS)
def test_an_error_of_write_at_the_save_loses_no_token(hooks, scripted, make_connection, monkeypatch, refresh):
    """The request breaks the site's function, and each connection that is open."""
    monkeypatch.setattr(row_module, "SAVE_PAUSES", (0.0, 0.0, 0.0, 0.0))
    persist, broken = RowStore._persist, []

    def break_write(store: RowStore, statement: Any) -> Any:
        if not broken:
            broken.append(1)
            hooks.failures = 2
            own = connections[store.alias]
            if hasattr(own, MARK):
                own.close()
        return persist(store, statement)

    monkeypatch.setattr(RowStore, "_persist", break_write)
    monkeypatch.setattr("oauth_connect.stores.bulk.BulkStore.save_soon", alone)
    connection = make_connection(age=EXPIRED)
    refresh(connection)
    wait_for_follow_ups()
    assert hooks.failures == 0
    assert stored(connection).token.refresh_token == "refresh-1"
    assert len(scripted.asked("/token")) == 1


def alone(store: Any, seen: Any, owner: str, token: Any, refresh_at: Any, on_result: Any) -> None:
    """Let a run save the row alone, after the writer's connection was lost."""
    store.writer.run(lambda: connections[store.alias].close())
    on_result(None)
