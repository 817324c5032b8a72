"""Calls that an API refuses with 401 while another process refreshes: they wait, and ask for nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections

from oauth_connect.contrib.httpx import aclient, client
from oauth_connect.models import Connection
from oauth_connect.stores.row import RowStore
from tests.faults.processes import at_once
from tests.servers.scripted import Answer
from tests.support.tokens import FRESH, stored, tokens
from tests.support.waiting import TIMEOUT

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted_provider")]

REFUSED, ACCEPTED = Answer(401), Answer(body={})


def with_requests(connection: Connection) -> int:
    return int(connection.session().get("me").status_code)


def with_httpx(connection: Connection) -> int:
    with client(connection) as http:
        return int(http.get("me").status_code)


def with_async_httpx(connection: Connection) -> int:
    async def call() -> int:
        async with await aclient(connection) as http:
            return int((await http.get("me")).status_code)

    return asyncio.run(call())


every_client = pytest.mark.parametrize("call", [with_requests, with_httpx, with_async_httpx])


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a caller of this process has seen another process's lease and waits."""
    waiting, peek = threading.Event(), RowStore.peek

    def peek_and_say(store: RowStore) -> Any:
        seen = peek(store)
        waiting.set()
        return seen

    monkeypatch.setattr(RowStore, "peek", peek_and_say)
    return waiting


def meanwhile(call: Callable[[Connection], int], connection: Connection, waits: threading.Event) -> Any:
    """Begin the call in a thread, and return its future when it waits."""

    def caller() -> int:
        try:
            return call(stored(connection))
        finally:
            connections.close_all()

    with_thread = ThreadPoolExecutor(1)
    future = with_thread.submit(caller)
    with_thread.shutdown(wait=False)
    assert waits.wait(TIMEOUT)
    assert not future.done()
    return future


@pytest.mark.compliance("D40")
@every_client
def test_a_refused_call_waits_for_the_refresh_of_another_process(
    scripted, make_connection, start, waits, call
):
    scripted.on("/token", Answer(body=FRESH), Answer(400, {"error": "invalid_grant"}))
    scripted.on("/api/me", REFUSED, REFUSED, ACCEPTED)
    connection = make_connection()
    first = start(connection, task="call", path="me", stops=["before_save"]).ready().go()
    first.until("before_save")
    second = meanwhile(call, connection, waits)
    first.go()
    assert (first.result(), second.result(TIMEOUT)) == ({"status": 200, "version": 1}, 200)
    assert len(scripted.asked("/token")) == 1
    sent = [request.headers["Authorization"] for request in scripted.asked("/api/me")]
    assert sorted(sent) == ["Bearer access-0"] * 2 + ["Bearer access-1"] * 2


@every_client
def test_a_call_that_is_refused_again_waits_for_a_refresh_under_way(
    scripted, make_connection, start, waits, call
):
    """Alone it would ask for nothing; but the token is being refreshed for another reason."""
    scripted.on("/token", Answer(body=FRESH), Answer(body=tokens("2")), Answer(400))
    scripted.on("/api/me", *[REFUSED] * 3, ACCEPTED)
    connection = make_connection()
    assert with_requests(stored(connection)) == 401
    first = start(connection, task="refresh", stops=["before_save"]).ready().go().until("before_save")
    second = meanwhile(call, connection, waits)
    first.go()
    first.results()
    assert second.result(TIMEOUT) == 200
    assert len(scripted.asked("/token")) == 2
    assert scripted.asked("/api/me")[-1].headers["Authorization"] == "Bearer access-2"


def test_processes_and_threads_that_are_refused_during_a_slow_refresh_share_it(
    scripted, make_connection, start
):
    """The token endpoint responds when all callers have been refused."""
    scripted.on("/token", Answer(body=FRESH, until=lambda: scripted.wait_for("/api/me", 6)), Answer(400))
    scripted.on("/api/me", *[REFUSED] * 6, ACCEPTED)
    connection = make_connection()
    workers = at_once([start(*[connection] * 3, task="call", path="me") for _ in range(2)])
    results = [result for worker in workers for result in worker.results()]
    assert results == [{"status": 200, "version": 1}] * 6
    assert len(scripted.asked("/token")) == 1


@pytest.mark.compliance("D40")
def test_that_an_api_refuses_a_token_requested_for_it_is_logged_once_a_token_and_process(
    scripted, make_connection, start
):
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/api/me", REFUSED)
    connection = make_connection()
    for worker in at_once([start(*[connection] * 4, task="call", path="me", times=5) for _ in range(2)]):
        assert {result["status"] for result in worker.results()} == {401}
        assert worker.logged == ["refused_again"]
    assert len(scripted.asked("/token")) == 1
