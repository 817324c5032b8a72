"""Connections in calls of httpx and httpx2: refreshed through the lease, and never in the event loop."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection as database
from django.db import connections, transaction

from oauth_connect.contrib.httpx import ConnectionAuth, aclient, aclient_for, client, client_for
from oauth_connect.errors import (
    AmbiguousConnection,
    ForbiddenDestination,
    ProviderUnavailable,
    ReauthorizationRequired,
)
from oauth_connect.flows import aaccess_token_for, aconnection_for
from oauth_connect.models import Connection
from oauth_connect.models.lifecycle.async_access import in_thread
from oauth_connect.protocol.background import MAX_PER_PROVIDER, THREADS
from oauth_connect.protocol.client import AuthorizationServer
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.databases import ROOT, worker_environment
from tests.support.frames import files_of
from tests.support.processes import send_line
from tests.support.tokens import EXPIRED, FRESH, raw, stored
from tests.support.waiting import TIMEOUT, eventually

pytestmark = pytest.mark.django_db(transaction=True)

LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
MANY = 200


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run in an event loop, as a script would; then close what Django's own async queries have opened."""

    async def whole() -> Any:
        try:
            return await work
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(whole())


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("oauth_connect-async")]


def a_turn() -> Callable[[], None]:
    """Return what a thread calls to wait for a turn of this event loop; blocked, the loop takes none."""
    loop = asyncio.get_running_loop()
    return lambda: asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(TIMEOUT)


# --- calls --------------------------------------------------------------------------------------


@LIBRARIES
def test_a_client_refreshes_and_keeps_what_comes_back(codeyard, make_connection, library: ModuleType) -> None:
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())
    with library.Client(auth=ConnectionAuth(connection)) as http:
        assert http.get(f"{codeyard.url}/api/user").json()["login"] == "ada"
    assert codeyard.refreshes == 1
    assert stored(connection).version == connection.version == 1


@LIBRARIES
def test_an_async_client_refreshes_and_keeps_what_comes_back(
    codeyard, make_connection, library: ModuleType
) -> None:
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())

    async def call() -> Any:
        async with library.AsyncClient(auth=ConnectionAuth(connection)) as http:
            return await http.get(f"{codeyard.url}/api/user")

    assert run(call()).json()["login"] == "ada"
    assert codeyard.refreshes == 1
    assert stored(connection).version == connection.version == 1
    assert stored(connection).token.access_token == connection.token.access_token


@pytest.mark.compliance("A22")
@LIBRARIES
def test_a_token_that_the_api_refuses_is_refreshed_once_and_the_call_repeated(
    codeyard, make_connection, library: ModuleType
) -> None:
    connection = make_connection("codeyard", age=100, response=codeyard.grant(lifetime=300))
    codeyard.expire()

    async def call() -> Any:
        async with library.AsyncClient(auth=ConnectionAuth(connection)) as http:
            return await http.get(f"{codeyard.url}/api/user")

    response = run(call())
    assert response.status_code == 200
    assert [past.status_code for past in response.history] == [401]
    assert codeyard.refreshes == 1


@pytest.mark.compliance("D40")
@pytest.mark.parametrize(("status", "refreshes", "calls"), [(401, 1, 4), (403, 0, 3)])
def test_an_error_that_no_refresh_corrects_is_the_callers(
    scripted, scripted_provider, make_connection, status: int, refreshes: int, calls: int
) -> None:
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/api/user", Answer(status))
    connection = make_connection()

    async def call() -> int:
        async with await aclient(connection) as http:
            return int((await http.get("user")).status_code)

    assert [run(call()) for _ in range(3)] == [status] * 3
    assert len(scripted.asked("/token")) == refreshes
    assert len(scripted.asked("/api/user")) == calls


def test_a_valid_token_costs_neither_a_query_nor_a_thread(
    scripted, scripted_provider, make_connection, django_assert_num_queries, monkeypatch
) -> None:
    scripted.on("/api/user", Answer(body={}))
    connection = make_connection()
    never = "a thread was asked"
    monkeypatch.setattr("concurrent.futures.ThreadPoolExecutor.submit", lambda *_: pytest.fail(never))

    async def call() -> str:
        async with httpx.AsyncClient(auth=ConnectionAuth(connection)) as http:
            for _ in range(3):
                assert (await http.get(f"{scripted.url}/api/user")).status_code == 200
        return str(await connection.aaccess_token())

    with django_assert_num_queries(0):
        assert asyncio.run(call()) == "access-0"


@pytest.mark.compliance("CVE-2024-51987")
def test_interleaved_calls_each_carry_their_own_token(
    user, other_user, scripted, scripted_provider, make_connection
) -> None:
    """While each of them is refreshed, too: no result goes to another connection's caller."""
    people = {"grace": user, "mallory": other_user}
    made = {}
    for name, person in people.items():
        issued = {**FRESH, "access_token": f"{name}-0", "refresh_token": f"{name}-refresh-0"}
        made[name] = make_connection(owner=person, account_id="shared", age=EXPIRED, response=issued)
    scripted.on("/api/me", Answer(body={}))

    def both() -> None:
        scripted.wait_for("/token", 2)

    scripted.on("/token", *[Answer(body={**FRESH, "access_token": f"new-{n}"}, until=both) for n in range(2)])

    async def call_as(name: str) -> None:
        async with await aclient(await aconnection_for(people[name], "scripted")) as http:
            await http.get("me", params={"who": name})

    async def call_all() -> None:
        await asyncio.gather(*[call_as(name) for name in [*people] * 20])

    run(call_all())
    sent = {(call.query["who"], call.headers["Authorization"]) for call in scripted.asked("/api/me")}
    assert sent == {(name, f"Bearer {stored(made[name]).token.access_token}") for name in people}
    assert len(scripted.asked("/token")) == 2


# --- many at one expiry -------------------------------------------------------------------------


@pytest.mark.compliance("D30")
def test_two_hundred_callers_at_one_expiry_are_one_token_request_in_eight_threads(
    codeyard, make_connection, monkeypatch
) -> None:
    """Each with an instance of its own, as each request of a site has loaded it; none blocks the loop."""
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())
    instances = [stored(connection) for _ in range(MANY)]

    async def call(instance: Connection, http: Any) -> int:
        response = await http.get(f"{codeyard.url}/api/user", auth=ConnectionAuth(instance))
        return int(response.status_code)

    async def call_all() -> list[int]:
        turn, refresh = a_turn(), AuthorizationServer.refresh

        def refresh_after_a_turn(*call: Any, **options: Any) -> Any:
            turn()
            return refresh(*call, **options)

        monkeypatch.setattr(AuthorizationServer, "refresh", refresh_after_a_turn)
        limits = httpx.Limits(max_connections=10)
        async with httpx.AsyncClient(limits=limits, timeout=60) as http:
            return await asyncio.gather(*[call(instance, http) for instance in instances])

    before = threading.active_count() - len(threads())
    statuses = run(call_all())

    assert statuses == [200] * MANY
    assert codeyard.refreshes == 1
    assert codeyard.stats["reuse_seen"] == 0
    assert {instance.version for instance in instances} == {1}
    assert 1 <= len(threads()) <= THREADS
    assert threading.active_count() - len(threads()) <= before + 1, "and the one of Django's queries"


@pytest.mark.compliance("D30")
def test_two_hundred_parallel_refusals_of_the_api_are_one_token_request(codeyard, make_connection) -> None:
    connection = make_connection("codeyard", age=100, response=codeyard.grant(lifetime=300))
    codeyard.expire()
    instances = [stored(connection) for _ in range(MANY)]

    async def call_all() -> list[str]:
        auths = [ConnectionAuth(instance) for instance in instances]
        sources = [await auth.asource() for auth in auths]
        renewed = await asyncio.gather(*[source.arenewed(source.connection.token) for source in sources])
        return [token.access_token for token in renewed if token]

    tokens = run(call_all())
    assert tokens == [stored(connection).token.access_token] * MANY
    assert codeyard.refreshes == 1
    assert len(threads()) <= THREADS


def test_parallel_refreshes_are_one(codeyard, make_connection) -> None:
    connection = make_connection("codeyard", response=codeyard.grant())
    instances = [stored(connection) for _ in range(50)]

    async def refresh_all() -> None:
        await asyncio.gather(*[instance.arefresh() for instance in instances])

    run(refresh_all())
    assert codeyard.refreshes == 1
    assert {instance.token.access_token for instance in instances} == {stored(connection).token.access_token}


def test_connections_of_their_own_are_refreshed_by_eight_threads(rotating, many, configure) -> None:
    configure(PROVIDERS={"rotating": rotating.entry()})
    made = many(30)

    async def refresh_all() -> list[str]:
        return await asyncio.gather(*[connection.aaccess_token() for connection in made])

    assert run(refresh_all()) == [f"access-row{number}-1" for number in range(30)]
    assert set(rotating.spent.values()) == {1}
    assert len(threads()) <= THREADS


async def served_meanwhile(
    other: Connection,
    instances: list[Connection],
    scripted: ScriptedServer,
    requests: int,
    released: threading.Event,
) -> str:
    """Return a token of another connection, while instances wait for requests that are held until then."""
    waiting = [asyncio.create_task(instance.aaccess_token()) for instance in instances]
    await scripted.awaited("/token", requests)
    token = await other.aaccess_token()
    assert not any(task.done() for task in waiting)
    released.set()
    assert set(await asyncio.gather(*waiting)) == {"late"}
    return str(token)


@pytest.mark.compliance("D62")
def test_a_provider_that_hangs_leaves_threads_for_the_others(
    scripted, scripted_entry, make_connection, configure
) -> None:
    healthy = ScriptedServer()
    healthy.on("/token", Answer(body=FRESH))
    released = threading.Event()
    scripted.on("/token", Answer(body={**FRESH, "access_token": "late"}, hold=released))
    entry = {**scripted_entry, "token_endpoint": f"{healthy.url}/token"}
    configure(PROVIDERS={"scripted": scripted_entry, "healthy": entry}, HTTP_TIMEOUT=50)
    hanging = [make_connection("scripted", age=EXPIRED) for _ in range(THREADS + 4)]
    other = make_connection("healthy", age=EXPIRED)

    try:
        assert run(served_meanwhile(other, hanging, scripted, MAX_PER_PROVIDER, released)) == "access-1"
    finally:
        released.set()
        healthy.close()


@pytest.mark.compliance("D62")
def test_those_who_wait_for_one_row_take_one_thread(
    scripted, scripted_provider, make_connection, configure
) -> None:
    configure(HTTP_TIMEOUT=50)
    released = threading.Event()
    scripted.on("/token", Answer(body={**FRESH, "access_token": "late"}, hold=released), Answer(body=FRESH))
    connection = make_connection(age=EXPIRED)
    instances = [stored(connection) for _ in range(MANY)]
    other = make_connection(age=EXPIRED)

    try:
        assert run(served_meanwhile(other, instances, scripted, 1, released)) == "access-1"
    finally:
        released.set()


# --- the event loop, and callers that go away ---------------------------------------------------


def test_the_event_loop_continues_while_the_provider_is_slow(
    scripted, scripted_provider, make_connection
) -> None:
    """Which answers only after a turn of the loop, and after one more."""
    connection = make_connection(age=EXPIRED)

    async def ask() -> str:
        turn = a_turn()
        scripted.on("/token", Answer(body=FRESH, until=lambda: (turn(), turn())))
        return str(await connection.aaccess_token())

    assert run(ask()) == "access-1"


@pytest.mark.parametrize("cancelled", [1, 3], ids=["one of them", "all"])
def test_a_cancelled_caller_takes_the_token_from_no_other(
    scripted, scripted_provider, make_connection, cancelled: int
) -> None:
    answered = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=answered))
    connection = make_connection(age=EXPIRED)
    instances = [stored(connection) for _ in range(3)]

    async def ask() -> list[Any]:
        tasks = [asyncio.create_task(instance.aaccess_token()) for instance in instances]
        await scripted.awaited("/token")
        for task in tasks[:cancelled]:
            task.cancel()
        await asyncio.wait(tasks[:cancelled])
        answered.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = run(ask())
    assert [type(result) for result in results[:cancelled]] == [asyncio.CancelledError] * cancelled
    assert results[cancelled:] == ["access-1"] * (3 - cancelled)
    eventually(lambda: stored(connection).version == 1, "the token saved")
    assert stored(connection).token.refresh_token == "refresh-1"
    assert len(scripted.asked("/token")) == 1


def test_an_event_loop_that_ends_during_a_refresh_loses_no_token(
    scripted, scripted_provider, make_connection
) -> None:
    answered = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=answered))
    connection = make_connection(age=EXPIRED)

    async def leave() -> None:
        task = asyncio.create_task(connection.aaccess_token())
        await scripted.awaited("/token")
        assert not task.done()

    run(leave())
    answered.set()
    eventually(lambda: stored(connection).version == 1, "the token saved")
    assert stored(connection).token.refresh_token == "refresh-1"


LEAVING = """
import asyncio, json, sys, django
django.setup()
from django.conf import settings
providers, pk = json.loads(sys.argv[1])
settings.OAUTH_CONNECT = {**settings.OAUTH_CONNECT, "PROVIDERS": providers}
from oauth_connect.models import Connection
connection = Connection.objects.get(pk=pk)

async def leave():
    asyncio.create_task(connection.aaccess_token())
    await asyncio.to_thread(sys.stdin.readline)

asyncio.run(leave())
print("left", flush=True)
"""


@pytest.mark.process
def test_a_process_that_ends_during_a_refresh_saves_the_token_first(
    scripted, scripted_provider, make_connection
) -> None:
    """Its event loop ends once the provider has been asked, and the provider answers after that."""
    left = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=left))
    connection = make_connection(age=EXPIRED)
    orders = json.dumps([{"scripted": scripted_provider}, str(connection.pk)])
    command = [sys.executable, "-c", LEAVING, orders]
    leaving = subprocess.Popen(
        command,
        cwd=ROOT,
        env=worker_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        scripted.wait_for("/token")
        send_line(leaving, "asked")
        assert leaving.stdout is not None
        assert leaving.stdout.readline() == "left\n"
        assert leaving.poll() is None
    finally:
        left.set()
        leaving.communicate(timeout=TIMEOUT)
    assert leaving.returncode == 0
    assert len(scripted.asked("/token")) == 1
    assert stored(connection).token.refresh_token == "refresh-1"


# --- what goes wrong ----------------------------------------------------------------------------


def test_all_who_waited_hear_why_and_one_asked(scripted, scripted_provider, make_connection) -> None:
    connection = make_connection(age=EXPIRED)
    instances = [stored(connection) for _ in range(20)]

    async def ask() -> list[Any]:
        # By the turn in which the request has come, all of them wait.
        scripted.on("/token", Answer(400, {"error": "invalid_grant"}, until=a_turn()))
        tasks = [instance.aaccess_token() for instance in instances]
        return await asyncio.gather(*tasks, return_exceptions=True)

    errors = run(ask())
    assert {type(error) for error in errors} == {ReauthorizationRequired}
    assert {error.connection.pk for error in errors} == {connection.pk}
    assert errors[0].connect_url == connection.connect_url
    assert {instance.status for instance in instances} == {"reauthorization_required"}
    assert len(scripted.asked("/token")) == 1


def test_a_provider_that_is_down_is_reported_and_a_valid_token_is_still_used(
    scripted, scripted_provider, make_connection
) -> None:
    scripted.on("/token", Answer(503))
    expired, expiring = make_connection(age=EXPIRED), make_connection(age=2800)
    with pytest.raises(ProviderUnavailable):
        run(expired.aaccess_token())
    assert run(expiring.aaccess_token(900)) == "access-0"


@pytest.mark.vendor("postgresql", "mysql")
def test_the_threads_keep_no_database_session(rotating, many, configure) -> None:
    configure(PROVIDERS={"rotating": rotating.entry()})
    made = many(12)

    async def refresh_all() -> None:
        await asyncio.gather(*[connection.aaccess_token() for connection in made])

    run(refresh_all())
    eventually(lambda: sessions_of_others() == 0, "no session of a thread's left")


def sessions_of_others() -> int:
    asked = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
        "mysql": "SELECT count(*) FROM information_schema.processlist "
        "WHERE db = DATABASE() AND id <> CONNECTION_ID()",
    }
    with database.cursor() as cursor:
        cursor.execute(asked[database.vendor])
        return int(cursor.fetchone()[0])


def test_an_instance_that_knows_more_by_then_is_not_set_back(scripted_provider, make_connection) -> None:
    connection = make_connection()

    def overtaken(twin: Connection) -> None:
        twin.last_error = "of the past"
        connection.version = twin.version + 1

    run(in_thread(connection, "anything", overtaken))
    assert (connection.version, connection.last_error) == (1, "")


def test_a_row_that_was_loaded_in_part_is_completed_in_a_thread(
    scripted, scripted_provider, make_connection
) -> None:
    made = make_connection()
    partial = Connection.objects.defer("sealed_token", "status").get(pk=made.pk)
    assert run(partial.aaccess_token()) == "access-0"


def test_a_provider_loader_may_ask_the_database(scripted, scripted_entry, make_connection, configure) -> None:
    scripted.on("/api/user", Answer(body={}))

    def load(slug: str, owner: str) -> dict[str, Any]:
        assert Connection.objects.filter(owner=owner).count() < 9
        return dict(scripted_entry)

    configure(PROVIDER_LOADER=load, DISCOVERY_PRIVATE_HOSTS=["127.0.0.1"])
    connection = make_connection()

    async def call() -> int:
        async with await aclient(connection) as http:
            return int((await http.get("user")).status_code)

    assert run(call()) == 200


# --- beneath synchronous code -------------------------------------------------------------------


def test_within_a_transaction_the_callers_own_thread_refreshes(
    scripted, scripted_provider, make_connection
) -> None:
    """The row is one that nobody else can see yet."""
    scripted.on("/token", Answer(body=FRESH))
    with transaction.atomic():
        connection = make_connection(age=EXPIRED)
        assert async_to_sync(connection.aaccess_token)() == "access-1"
    assert stored(connection).token.refresh_token == "refresh-1"


@pytest.mark.django_db(transaction=False)
def test_in_a_test_case_everything_stays_in_its_transaction(
    scripted, scripted_provider, make_connection
) -> None:
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/api/user", Answer(body={}))
    connection = make_connection(age=EXPIRED)

    async def call() -> int:
        async with await aclient_for(connection.user, "scripted") as http:
            return int((await http.get("user")).status_code)

    assert async_to_sync(call)() == 200
    assert stored(connection).version == 1


# --- the clients that are made here -------------------------------------------------------------


@LIBRARIES
def test_a_client_for_a_user_joins_urls_and_sends_the_providers_headers(
    user, scripted, scripted_entry, make_connection, configure, library: ModuleType
) -> None:
    api = {"headers": {"Accept": "application/vnd.acme+json"}}
    configure(PROVIDERS={"scripted": {**scripted_entry, "api": api}})
    make_connection()
    scripted.on("/api/user", Answer(body={}))

    async def call() -> Any:
        made = await aclient_for(user, "scripted", client_class=library.AsyncClient, headers={"X-Own": "1"})
        assert isinstance(made, library.AsyncClient)
        async with made as http:
            return await http.get("/user")

    with client_for(user, "scripted", client_class=library.Client, headers={"X-Own": "1"}) as http:
        assert isinstance(http, library.Client)
        assert http.get("user").status_code == run(call()).status_code == 200
    for request in scripted.asked("/api/user"):
        sent = {name.lower(): value for name, value in request.headers.items()}
        assert (sent["accept"], sent["x-own"]) == ("application/vnd.acme+json", "1")
        assert sent["authorization"] == "Bearer access-0"


def test_without_a_usable_connection_the_errors_are_those_of_session_for(
    user, scripted_provider, make_connection
) -> None:
    async def make() -> None:
        await aclient_for(user, "scripted")

    for attempt in (lambda: client_for(user, "scripted"), lambda: run(make())):
        with pytest.raises(ReauthorizationRequired) as required:
            attempt()
        assert required.value.connect_url == "/oauth/scripted/connect/"
    for account in ("ada", "linus"):
        make_connection(account_id=account)
    with pytest.raises(AmbiguousConnection):
        run(make())


def test_a_token_for_a_users_sdk(user, scripted_provider, make_connection) -> None:
    make_connection()
    assert run(aaccess_token_for(user, "scripted")) == "access-0"


def calling(connection: Connection, is_async: bool, url: str, **options: Any) -> Any:
    if not is_async:
        with client(connection, **options) as http:
            return http.get(url)

    async def call() -> Any:
        async with await aclient(connection, **options) as http:
            return await http.get(url)

    return run(call())


both = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@both
@pytest.mark.compliance("D37")
@pytest.mark.parametrize(
    ("api", "header", "value"),
    [({}, "Authorization", "Bearer access-0"), ({"header": "X-Key", "scheme": ""}, "X-Key", "access-0")],
)
def test_redirects_keep_the_token_within_the_origin_and_lose_it_elsewhere(
    scripted, scripted_entry, make_connection, configure, is_async, api, header, value
) -> None:
    second = ScriptedServer()
    api = {**api, "headers": {"X-Site-Key": "key"}}
    configure(PROVIDERS={"scripted": {**scripted_entry, "api": api}})
    connection = make_connection()
    scripted.on("/api/old", Answer(302, headers={"Location": "/api/new"}))
    scripted.on("/api/new", Answer(302, headers={"Location": f"{second.url}/file"}))
    second.on("/file", Answer(302, headers={"Location": f"{scripted.url}/api/again"}))
    scripted.on("/api/again", Answer(body={}))

    assert calling(connection, is_async, "old", follow_redirects=True).status_code == 200

    assert scripted.asked("/api/new")[0].headers[header] == value
    assert scripted.asked("/api/new")[0].headers["X-Site-Key"] == "key"
    assert not {header, "X-Site-Key"} & second.asked("/file")[0].headers.keys()
    assert header not in scripted.asked("/api/again")[0].headers
    second.close()


@both
@pytest.mark.parametrize("api", [{}, {"header": "X-Key", "scheme": "Bearer"}])
def test_a_redirect_to_another_host_of_api_hosts_keeps_the_token(
    scripted, scripted_entry, make_connection, configure, is_async, api
) -> None:
    second = ScriptedServer()
    hosts = [f"127.0.0.1:{scripted.port}", f"127.0.0.1:{second.port}"]
    configure(PROVIDERS={"scripted": {**scripted_entry, "api": api, "api_hosts": hosts}})
    scripted.on("/api/file", Answer(307, headers={"Location": f"{second.url}/file"}))
    second.on("/file", Answer(body={}))
    assert calling(make_connection(), is_async, "file", follow_redirects=True).status_code == 200
    assert second.asked("/file")[0].headers[api.get("header", "Authorization")] == "Bearer access-0"
    second.close()


@both
@pytest.mark.compliance("D38")
@pytest.mark.parametrize(
    "location", ["http://api.example/", "ftp://api.example/", "https://a:b@evil.example/"]
)
def test_a_redirect_down_to_http_is_not_followed(
    scripted, scripted_provider, make_connection, is_async, location
) -> None:
    scripted.on("/api/file", Answer(302, headers={"Location": location}))
    connection = make_connection()
    with pytest.raises(ForbiddenDestination):
        calling(connection, is_async, "file", follow_redirects=True)


@both
@pytest.mark.compliance("D45")
@pytest.mark.parametrize("answer", [Answer(reset=True), Answer(silent=True), Answer(body=b"{}", cut=1)])
def test_a_failed_calls_error_is_cut_off_from_the_frames_that_hold_the_token(
    scripted, scripted_provider, make_connection, is_async, answer
) -> None:
    scripted.on("/api/user", answer)
    connection = make_connection()
    with pytest.raises(httpx.HTTPError) as raised:
        calling(connection, is_async, "user", timeout=0.2)
    assert raised.value.__suppress_context__
    files = files_of(raised.value)
    assert not any("httpcore" in name or "h11" in name for name in files)


@both
def test_the_callers_own_hooks_are_called_too(scripted, scripted_provider, make_connection, is_async) -> None:
    scripted.on("/api/user", Answer(body={}))
    seen: list[str] = []

    def hook(request: Any) -> None:
        seen.append(request.url.path)

    async def ahook(request: Any) -> None:
        hook(request)

    calling(make_connection(), is_async, "user", event_hooks={"request": [ahook if is_async else hook]})
    assert seen == ["/api/user"]


def test_a_deleted_row_is_reported(scripted, scripted_provider, make_connection) -> None:
    connection = make_connection(age=EXPIRED)
    raw(connection).delete()
    with pytest.raises(ReauthorizationRequired) as required:
        run(connection.aaccess_token())
    assert required.value.reason == "disconnected"
