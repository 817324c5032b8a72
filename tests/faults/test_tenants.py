"""Rows that only some database connections see: row-level security, a schema for each tenant (PostgreSQL)."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError, connections, transaction
from django.db import connection as database

from oauth_connect.errors import ConnectionHidden, ReauthorizationRequired
from oauth_connect.jobs.refresh import Due, refresh_due
from oauth_connect.management.stop import StopRequest
from oauth_connect.models import (
    Connection,
    ConnectionEvent,
    ConsumedState,
    PendingRevocation,
    ProviderState,
)
from oauth_connect.stores import connection_state, uncommitted
from oauth_connect.stores import row as row_module
from tests.servers.scripted import Answer
from tests.support.databases import run_name
from tests.support.threads import in_another_thread
from tests.support.tokens import EXPIRED, FRESH, raw, rows, stored, tokens

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.vendor("postgresql")]

TABLE = Connection._meta.db_table
TABLES = [
    model._meta.db_table
    for model in (Connection, ConnectionEvent, ConsumedState, PendingRevocation, ProviderState)
]


def execute(sql: str, *parameters: Any) -> Any:
    with database.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()[0] if cursor.description else None


def enter(tenant: str) -> None:
    """Do what a site's middleware does on the connection of a request."""
    execute("SELECT set_config('app.tenant', %s, false)", tenant)


def read(connection: Any) -> str | None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('app.tenant', true)")
        return cursor.fetchone()[0] or None


def write(connection: Any, tenant: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('app.tenant', %s, false)", [tenant])


@pytest.fixture
def carried(configure: Callable[..., None]) -> None:
    configure(CONNECTION_STATE=(read, write))


@pytest.fixture
def policy(transactional_db: None, scripted: Any, scripted_provider: Any) -> Iterator[Callable[[str], None]]:
    """Row-level security on the connections, in which this test's database connection is of "acme".

    Every connection has the rights of a role that policies apply to. The result replaces the condition.
    """
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/revoke", Answer())
    role = f"{run_name()}_site"
    options = database.settings_dict["OPTIONS"]

    def change(condition: str) -> None:
        execute("SET ROLE NONE")
        execute(f"DROP POLICY IF EXISTS tenants ON {TABLE}")
        execute(f"CREATE POLICY tenants ON {TABLE} USING ({condition})")
        execute(f"SET ROLE {role}")

    execute(f"CREATE ROLE {role}")
    execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}")
    execute(f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY")
    execute(f"ALTER TABLE {TABLE} FORCE ROW LEVEL SECURITY")
    database.close()
    options["options"] = f"-c role={role}"
    try:
        change("current_setting('app.tenant', true) = 'acme'")
        enter("acme")
        yield change
    finally:
        del options["options"]
        database.close()
    execute(f"DROP POLICY tenants ON {TABLE}")
    execute(f"ALTER TABLE {TABLE} DISABLE ROW LEVEL SECURITY")
    execute(f"ALTER TABLE {TABLE} NO FORCE ROW LEVEL SECURITY")
    execute(f"DROP OWNED BY {role}")
    execute(f"DROP ROLE {role}")


def in_a_thread(work: Callable[[], Any]) -> None:
    """Run work in another session of the tenant."""

    def body() -> None:
        enter("acme")
        work()

    in_another_thread(body)


# --- row-level security, with the setting ---------------------------------------------------------


@pytest.mark.usefixtures("policy", "carried")
def test_in_a_transaction_that_is_rolled_back_the_token_stays(make_connection, scripted):
    connection = make_connection(age=EXPIRED)
    with transaction.atomic():
        assert connection.access_token() == "access-1"
        transaction.set_rollback(True)
    assert stored(connection).token.refresh_token == "refresh-1"
    assert scripted.asked("/revoke") == []


@pytest.mark.usefixtures("policy", "carried")
def test_a_tenant_that_is_set_for_a_transaction_only_is_carried(make_connection):
    connection = make_connection(age=EXPIRED)
    enter("")
    with transaction.atomic():
        execute("SET LOCAL app.tenant = 'acme'")
        assert stored(connection).access_token() == "access-1"
        transaction.set_rollback(True)
    enter("acme")
    assert stored(connection).token.refresh_token == "refresh-1"


@pytest.mark.usefixtures("policy", "carried")
def test_async_code_gets_a_token_in_the_tenant_of_its_queries(make_connection):
    connection = make_connection(age=EXPIRED)

    async def view() -> str:
        await sync_to_async(enter)("acme")
        try:
            return await (await Connection.objects.aget(pk=connection.pk)).aaccess_token()
        finally:
            await sync_to_async(connections.close_all)()

    assert asyncio.run(view()) == "access-1"
    assert stored(connection).token.refresh_token == "refresh-1"


@pytest.mark.usefixtures("policy", "carried")
def test_a_script_that_enters_the_tenant_before_its_event_loop_gets_a_token(make_connection):
    connection = make_connection(age=EXPIRED)
    assert asyncio.run(connection.aaccess_token()) == "access-1"
    assert stored(connection).token.refresh_token == "refresh-1"


@pytest.mark.usefixtures("policy", "carried")
def test_a_run_saves_what_it_refreshes_and_revokes_nothing(make_connection, scripted):
    for _ in range(5):
        make_connection(age=EXPIRED)
    call_command("oauth_refresh", verbosity=0)
    assert set(rows().values_list("version", "lease_owner")) == {(1, "")}
    assert len(scripted.asked("/token")) == 5
    assert scripted.asked("/revoke") == []
    assert not PendingRevocation.objects.exists()


@pytest.mark.usefixtures("policy", "carried")
def test_after_a_401_in_a_transaction_the_new_token_stays(make_connection, scripted):
    scripted.on("/api/me", Answer(401), Answer(200))
    connection = make_connection()
    with transaction.atomic():
        assert connection.session().get("me").status_code == 200
        transaction.set_rollback(True)
    assert stored(connection).token.refresh_token == "refresh-1"


@pytest.mark.usefixtures("policy", "carried")
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("ending", ["deleted", "connected again"])
def test_a_token_whose_row_has_ended_meanwhile_is_revoked_or_kept(
    make_connection, scripted, ending, inside, user
):
    connection = make_connection(age=EXPIRED, account_id="7")

    def meanwhile() -> None:
        if ending == "deleted":
            raw(connection).delete()
        else:
            Connection.objects.store(
                owner=user, provider="scripted", account_id="7", token_response=tokens("2")
            )

    scripted.on("/token", Answer(body=FRESH, until=lambda: in_a_thread(meanwhile)))
    if inside:
        with transaction.atomic():
            late = caught(connection.access_token)
    else:
        late = caught(connection.access_token)
    kept = [pending.open().refresh_token for pending in PendingRevocation.objects.all()]
    if ending == "deleted":
        assert isinstance(late, ReauthorizationRequired)
        assert [request.form["token"] for request in scripted.asked("/revoke")] == ["refresh-1"]
        assert kept == ["refresh-0"]  # of the deletion
    else:
        assert late == "access-2"
        assert sorted(kept) == ["refresh-0", "refresh-1"]
        assert scripted.asked("/revoke") == []


def caught(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return error


@pytest.mark.usefixtures("policy")
def test_a_write_that_fails_at_the_claim_sends_nothing(make_connection, scripted, configure):
    def fail(connection: Any, tenant: str) -> None:
        raise ZeroDivisionError("a fault of the site")

    configure(CONNECTION_STATE=(read, fail))
    connection = make_connection(age=EXPIRED)
    with transaction.atomic(), pytest.raises(OperationalError, match="CONNECTION_STATE"):
        connection.access_token()
    assert scripted.requests == []


@pytest.mark.usefixtures("policy")
def test_a_write_that_fails_at_the_save_loses_no_token(make_connection, scripted, configure, monkeypatch):
    monkeypatch.setattr(row_module, "SAVE_PAUSES", (0.0, 0.0, 0.0))
    failures: list[int] = []

    def sometimes(connection: Any, tenant: str) -> None:
        if failures:
            failures.pop()
            raise ZeroDivisionError("a fault of the site")
        write(connection, tenant)

    configure(CONNECTION_STATE=(read, sometimes))
    scripted.on("/token", Answer(body=FRESH, until=lambda: failures.extend([1, 1, 1])))
    connection = make_connection(age=EXPIRED)
    with transaction.atomic():
        assert connection.access_token() == "access-1"
        transaction.set_rollback(True)
    assert failures == []
    assert stored(connection).token.refresh_token == "refresh-1"


@pytest.mark.usefixtures("policy", "carried")
def test_the_passes_of_a_loop_stay_in_the_tenant_although_its_connection_is_closed_between(
    make_connection, monkeypatch
):
    """Django closes it between two passes unless CONN_MAX_AGE says otherwise."""
    waits = []

    def wait(request: StopRequest, seconds: float) -> None:
        waits.append(getattr(database.connection, "closed", True))
        enter("acme")
        make_connection(age=EXPIRED)
        database.close()
        if len(waits) == 3:
            request.ask()

    monkeypatch.setattr(StopRequest, "wait", wait)
    call_command("oauth_refresh", "--loop", "1", verbosity=0)
    enter("acme")
    assert waits == [True] * 3
    assert sorted(rows().values_list("version", flat=True)) == [0, 1, 1]


@pytest.mark.usefixtures("policy", "carried")
def test_a_rollback_in_a_thread_of_a_site_without_autocommit_does_not_undo_the_tenant():
    database.close()
    database.settings_dict["AUTOCOMMIT"] = False
    try:
        enter("acme")
        with connection_state.carried("default", connection_state.read_state("default")):
            Connection.objects.count()
            database.rollback()
            assert execute("SELECT current_setting('app.tenant', true)") == "acme"
        database.rollback()
    finally:
        database.close()
        database.settings_dict["AUTOCOMMIT"] = True


@pytest.mark.usefixtures("policy", "carried")
def test_no_connection_of_a_pool_keeps_a_tenant(make_connection):
    connection = make_connection(age=EXPIRED)
    options = database.settings_dict["OPTIONS"]
    database.close()
    options["pool"] = {"min_size": 1, "max_size": 2, "timeout": 10}
    try:
        enter("acme")
        with transaction.atomic():
            connection.access_token()
        assert [result.outcome for result in refresh_due(Due())] == []
        make_connection(age=EXPIRED)
        assert [result.outcome for result in refresh_due(Due())] == ["refreshed"]
        asyncio.run(make_connection(age=EXPIRED).aaccess_token())
        with database.pool.connection() as other:  # of the two, the one that is not this test's
            assert other.execute("SELECT current_setting('app.tenant', true)").fetchone()[0] in (None, "")
        assert {row.version for row in Connection.objects.all()} == {1}
        assert [*database._connection_pools] == ["default"]
    finally:
        database.close()
        database.close_pool()
        del options["pool"]


# --- row-level security, without the setting ------------------------------------------------------


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("change", [False, True], ids=["only read", "changed in the transaction"])
def test_in_a_transaction_a_hidden_row_is_named_and_nothing_is_sent(
    make_connection, scripted, change, after_a_second
):
    connection = make_connection(age=EXPIRED)
    after_a_second()
    with transaction.atomic():
        if change:
            with transaction.atomic():
                connection.account_label = "changed"
                connection.save()
        with pytest.raises(ConnectionHidden, match="CONNECTION_STATE"):
            connection.access_token()
        assert Connection.objects.filter(pk=connection.pk).exists(), "the transaction goes on"
    assert scripted.requests == []
    assert connection.access_token() == "access-1", "outside of the transaction its own connection serves"


@pytest.fixture
def after_a_second() -> Callable[[], None]:
    """Have PostgreSQL flush the statistics of this session, which it does once a second, or when asked."""

    def flush() -> None:
        execute("SELECT pg_stat_force_next_flush()")
        execute("SELECT 1")

    return flush


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("frozen", [False, True])
def test_a_hidden_row_that_was_frozen_is_named(make_connection, scripted, frozen):
    connection = make_connection(age=EXPIRED)
    if frozen:
        execute("SET ROLE NONE")
        execute(f"VACUUM FREEZE {TABLE}")
        execute(f"SET ROLE {run_name()}_site")
    with transaction.atomic(), pytest.raises(ConnectionHidden):
        connection.access_token()
    assert scripted.requests == []


@pytest.mark.usefixtures("policy")
def test_a_row_with_the_transaction_id_of_the_future_is_not_the_callers_insert(make_connection, monkeypatch):
    """As a row may have that was frozen two thousand million transactions ago."""
    future = "((pg_current_xact_id()::text::bigint + 1000) & 4294967295)"
    monkeypatch.setattr(uncommitted, "WRITTEN", (future, *uncommitted.WRITTEN[1:]))
    with transaction.atomic():
        connection = make_connection(age=EXPIRED)
        with pytest.raises(ConnectionHidden):
            connection.access_token()
        assert Connection.objects.filter(pk=connection.pk).exists(), "the transaction goes on"


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("nested", [False, True], ids=["insert", "insert in a savepoint"])
@pytest.mark.parametrize("changed", [False, True], ids=["unchanged", "changed after it"])
@pytest.mark.parametrize("rolled_back", [False, True], ids=["commit", "rollback"])
def test_the_callers_own_insert_and_its_token_share_one_fate(
    make_connection, scripted, nested, changed, rolled_back
):
    with transaction.atomic():
        if nested:
            with transaction.atomic():
                connection = make_connection(age=EXPIRED)
        else:
            connection = make_connection(age=EXPIRED)
        if changed:
            with transaction.atomic():
                connection.account_label = "changed"
                connection.save()
        assert connection.access_token() == "access-1"
        transaction.set_rollback(rolled_back)
    assert rows().count() == (0 if rolled_back else 1)
    if not rolled_back:
        assert stored(connection).token.refresh_token == "refresh-1"
    assert scripted.asked("/revoke") == []


@pytest.mark.usefixtures("policy")
def test_in_async_code_a_hidden_row_is_named_and_nothing_is_sent(make_connection, scripted):
    connection = make_connection(age=EXPIRED)

    async def view() -> None:
        await sync_to_async(enter)("acme")
        try:
            await (await Connection.objects.aget(pk=connection.pk)).aaccess_token()
        finally:
            await sync_to_async(connections.close_all)()

    for call in (view, connection.aaccess_token):  # in the thread of Django's queries, and in a script
        with pytest.raises(ConnectionHidden):
            asyncio.run(call())
    assert scripted.requests == []


@pytest.mark.usefixtures("policy")
def test_in_async_code_a_row_that_is_gone_counts_as_disconnected(make_connection):
    connection = make_connection(age=EXPIRED)
    raw(connection).delete()
    with pytest.raises(ReauthorizationRequired) as caught:
        asyncio.run(connection.aaccess_token())
    assert caught.value.reason == "disconnected"


@pytest.mark.usefixtures("policy")
def test_a_run_whose_rows_are_hidden_ends_with_the_error_and_they_stay_due(make_connection, scripted):
    due = [make_connection(age=EXPIRED) for _ in range(3)]
    with pytest.raises(ConnectionHidden):
        list(refresh_due(Due()))
    with pytest.raises(CommandError, match="CONNECTION_STATE") as ended:
        call_command("oauth_refresh", verbosity=0)
    assert ended.value.returncode == 1
    assert scripted.requests == []
    assert {(row.lease_owner, row.in_doubt) for row in rows()} == {("", False)}
    assert {row.pk: row.refresh_at for row in rows()} == {row.pk: row.refresh_at for row in due}
    assert not PendingRevocation.objects.exists()


def test_of_rows_that_are_hidden_in_part_the_others_are_refreshed(policy, make_connection, scripted):
    policy("current_setting('app.tenant', true) = 'acme' OR account_id = 'seen'")
    hidden, seen = make_connection(age=EXPIRED), make_connection(age=EXPIRED, account_id="seen")
    run = iter(refresh_due(Due()))
    first = next(run)
    assert (first.connection, first.outcome) == (seen.pk, "refreshed")
    with pytest.raises(ConnectionHidden):
        next(run)
    assert len(scripted.asked("/token")) == 1
    row = rows().get(pk=hidden.pk)
    assert (row.version, row.lease_owner, row.refresh_at) == (0, "", hidden.refresh_at)


@pytest.mark.usefixtures("policy")
def test_a_run_in_a_transaction_reports_each_hidden_row(make_connection, scripted):
    make_connection(age=EXPIRED)
    with transaction.atomic():
        results = [(result.outcome, result.code) for result in refresh_due(Due())]
    assert results == [("failed", "connection_hidden")]
    assert scripted.requests == []


# --- a schema for each tenant ---------------------------------------------------------------------


def read_schema(connection: Any) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        return str(cursor.fetchone()[0])


def write_schema(connection: Any, schema: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('search_path', %s, false)", [f"{schema},public"])


@pytest.fixture
def clones(
    transactional_db: None, scripted: Any, make_connection: Callable[..., Connection], scripted_provider: Any
) -> Iterator[uuid.UUID]:
    """The schemas "acme" and "umbrella", its clone. No other schema has the tables. Yields a row's key."""
    execute("CREATE SCHEMA acme")
    execute("CREATE SCHEMA umbrella")
    for table in TABLES:
        for tenant in ("acme", "umbrella"):
            execute(f"CREATE TABLE {tenant}.{table} (LIKE public.{table} INCLUDING ALL)")
        execute(f"ALTER TABLE public.{table} RENAME TO away_{table}")
    write_schema(database, "acme")
    pk = make_connection(age=EXPIRED, account_id="1", response=tokens("acme-0")).pk
    execute(f"INSERT INTO umbrella.{TABLE} SELECT * FROM acme.{TABLE}")  # noqa: S608
    write_schema(database, "umbrella")
    assert make_connection(age=EXPIRED, account_id="1", response=tokens("umbrella-0")).pk == pk
    scripted.on("/token", Answer(body=tokens("first")), Answer(body=tokens("second")))
    yield pk
    execute("RESET search_path")
    execute("DROP SCHEMA acme CASCADE")
    execute("DROP SCHEMA umbrella CASCADE")
    for table in TABLES:
        execute(f"ALTER TABLE public.away_{table} RENAME TO {table}")


@pytest.fixture
def carried_schema(configure: Callable[..., None]) -> None:
    configure(CONNECTION_STATE=(read_schema, write_schema))


def stored_in(tenant: str, pk: uuid.UUID) -> str:
    write_schema(database, tenant)
    return Connection.objects.get(pk=pk).token.refresh_token


def refresh_in(tenant: str, pk: uuid.UUID) -> str:
    """Refresh in a thread that has entered the tenant, as a request does."""
    write_schema(database, tenant)
    try:
        return Connection.objects.get(pk=pk).access_token()
    finally:
        connections.close_all()


@pytest.mark.usefixtures("carried_schema")
def test_threads_of_two_tenants_get_each_the_token_of_its_own_row(clones, scripted):
    hold = threading.Event()
    scripted.on("/token", Answer(body=tokens("first"), hold=hold), Answer(body=tokens("second")))
    with ThreadPoolExecutor(2) as pool:
        acme = pool.submit(refresh_in, "acme", clones)
        scripted.wait_for("/token")
        umbrella = pool.submit(refresh_in, "umbrella", clones)
        scripted.wait_for("/token", 2)
        hold.set()
        assert (acme.result(), umbrella.result()) == ("access-first", "access-second")
    assert stored_in("acme", clones) == "refresh-first"
    assert stored_in("umbrella", clones) == "refresh-second"


@pytest.mark.usefixtures("carried_schema")
def test_tasks_of_two_tenants_get_each_the_token_of_its_own_row(clones, scripted):
    hold = threading.Event()
    scripted.on("/token", Answer(body=tokens("first"), hold=hold), Answer(body=tokens("second")))

    async def view(tenant: str) -> str:
        await sync_to_async(lambda: write_schema(database, tenant))()
        return await (await Connection.objects.aget(pk=clones)).aaccess_token()

    async def both() -> list[str]:
        acme = asyncio.create_task(view("acme"))
        await scripted.awaited("/token")
        umbrella = asyncio.create_task(view("umbrella"))
        try:
            await scripted.awaited("/token", 2)
        finally:
            hold.set()
        found = await asyncio.gather(acme, umbrella)
        await sync_to_async(connections.close_all)()
        return found

    assert asyncio.run(both()) == ["access-first", "access-second"]
    assert stored_in("acme", clones) == "refresh-first"
    assert stored_in("umbrella", clones) == "refresh-second"


@pytest.mark.usefixtures("carried_schema")
def test_a_run_and_a_transaction_stay_in_the_schema_of_their_caller(clones, scripted):
    write_schema(database, "acme")
    call_command("oauth_refresh", verbosity=0)
    write_schema(database, "umbrella")
    with transaction.atomic():
        assert Connection.objects.get(pk=clones).access_token() == "access-second"
        transaction.set_rollback(True)
    assert stored_in("acme", clones) == "refresh-first"
    assert stored_in("umbrella", clones) == "refresh-second"
    assert [request.form["refresh_token"] for request in scripted.asked("/token")] == [
        "refresh-acme-0",
        "refresh-umbrella-0",
    ]


def test_without_the_setting_a_row_in_the_callers_schema_is_hidden_and_nothing_is_sent(clones, scripted):
    connection = Connection.objects.get(pk=clones)
    with transaction.atomic(), pytest.raises(ConnectionHidden):
        connection.access_token()
    with pytest.raises(ConnectionHidden):
        asyncio.run(connection.aaccess_token())
    with pytest.raises(ConnectionHidden):
        list(refresh_due(Due()))
    assert scripted.requests == []
    assert set(rows().values_list("lease_owner", "refresh_at")) == {("", connection.refresh_at)}


def test_threads_that_meet_a_hidden_row_all_learn_it(clones, scripted, calls_at_once):
    """One of them reads the row, and the others look at its lease meanwhile."""

    def in_a_transaction() -> str:
        write_schema(database, "acme")
        connection = Connection.objects.get(pk=clones)
        with transaction.atomic():
            return connection.access_token()

    outcomes = [outcome for _ in range(3) for outcome in calls_at_once(6, in_a_transaction)]
    assert {type(outcome) for outcome in outcomes} == {ConnectionHidden}
    assert scripted.requests == []


@pytest.mark.usefixtures("clones")
@pytest.mark.parametrize("command", ["oauth_refresh", "oauth_prune", "oauth_rotate_keys", "oauth_doctor"])
def test_in_a_schema_without_the_tables_a_command_says_so(command, capsys):
    execute("RESET search_path")
    with pytest.raises(CommandError) as ended:
        call_command(command)
    output = f"{ended.value}{capsys.readouterr().out}"
    assert TABLE in output
    assert "tenant_command" in output
    assert "migrate" in output
