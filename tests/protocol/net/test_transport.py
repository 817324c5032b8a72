"""The session of every exchange: how many connections it keeps, and for how long."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from oauth_connect.protocol.net import environment, transport
from oauth_connect.protocol.net.transport import ServerSession, deadline, new_session
from tests.servers.scripted import Answer, ScriptedServer

MANY = 9


@pytest.fixture
def hosts() -> Iterator[list[ScriptedServer]]:
    servers = [ScriptedServer() for _ in range(MANY)]
    for server in servers:
        server.on("/token", Answer(body={"n": 1}))
    yield servers
    for server in servers:
        server.close()


@pytest.fixture
def still_open(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Count the connections that were opened in this test and are not closed."""
    opened: list[socket.socket] = []
    connect = transport.Deadlined.connect

    def recorded(self: Any) -> None:
        connect(self)
        opened.append(self.sock)

    def count() -> int:
        gc.collect()
        return sum(one.fileno() != -1 for one in opened)

    monkeypatch.setattr(transport.Deadlined, "connect", recorded)
    return count


def post(session: ServerSession, host: ScriptedServer) -> int:
    with deadline(10):
        return session.exchange(
            "POST", f"{host.url}/token", headers={}, credentials={}, form={"a": "b"}
        ).status


def test_connections_are_kept_to_the_most_recent_hosts(hosts, still_open):
    with new_session(3) as session:
        for host in hosts:
            assert [post(session, host) for _ in range(2)] == [200, 200]
        assert still_open() == 3


def test_a_host_that_is_used_often_is_kept(hosts, still_open, monkeypatch):
    found = []
    with new_session(3) as session:
        route = transport.DeadlineAdapter.route

        def recorded(self, request, environment):
            found.append(request.url)
            return route(self, request, environment)

        monkeypatch.setattr(transport.DeadlineAdapter, "route", recorded)
        for host in hosts:
            post(session, hosts[0])
            post(session, host)
    assert found.count(f"{hosts[0].url}/token") == 1


def test_closing_closes_all(hosts, still_open):
    session = new_session(3)
    for host in hosts[:3]:
        post(session, host)
    assert still_open() == 3
    session.close()
    assert still_open() == 0
    assert post(session, hosts[0]) == 200
    session.close()
    assert still_open() == 0


def test_a_host_that_is_dropped_during_a_response_still_responds(hosts):
    held = threading.Event()
    hosts[0].on("/token", Answer(body={"n": 1}, hold=held))
    with new_session(2) as session, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(post, session, hosts[0])
        hosts[0].wait_for("/token")
        for host in hosts[1:]:
            post(session, host)
        gc.collect()
        held.set()
        assert slow.result() == 200


def test_many_threads_may_share_it(hosts):
    with new_session(2) as session, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(post, session, hosts[number % MANY]) for number in range(20 * MANY)]
        assert {one.result() for one in asked} == {200}


def test_an_interim_response_is_not_taken_for_the_final_one(hosts):
    """Otherwise a rotated token would be lost, or be read as the response to another exchange."""
    host = hosts[0]

    def hint() -> None:
        host.accepted[-1].sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")

    host.on("/token", Answer(body={"n": 1}, until=hint), Answer(400))
    with new_session(3) as session:
        assert [post(session, host) for _ in range(2)] == [200, 400]


def headers_of(session: ServerSession, host: ScriptedServer, **request: Any) -> dict[str, str]:
    """Send a request, and return the headers that the server received."""
    with deadline(10):
        session.exchange("POST", f"{host.url}/token", **{"headers": {}, "credentials": {}, **request})
    return {name.lower(): value for name, value in host.asked("/token")[-1].headers.items()}


def test_a_new_session_prepares_nothing_that_another_one_has_prepared(hosts, monkeypatch):
    """Each callback has a session of its own, so that its connection is new."""
    with new_session() as session:
        post(session, hosts[0])
    reads = "get_environ_proxies"
    for owner, name in ((requests.Request, "prepare"), (environment, reads), (requests.sessions, reads)):
        monkeypatch.setattr(owner, name, lambda *args, name=name: pytest.fail(name))
    with new_session() as session:
        assert post(session, hosts[0]) == 200


def test_what_a_session_sent_is_not_sent_by_the_next_one(hosts):
    with new_session() as session:
        first = headers_of(session, hosts[0], credentials={"Authorization": "Basic one"}, form={"a": "b"})
    with new_session() as session:
        second = headers_of(session, hosts[0])
    assert first["authorization"] == "Basic one"
    assert not {"authorization", "content-type"} & set(second)
    assert second["content-length"] == "0"


def test_a_new_session_uses_the_proxies_that_the_environment_names_now(hosts, monkeypatch):
    hosts[1].on(f"{hosts[0].url}/token", Answer(body={"n": 1}))
    with new_session() as session:
        assert post(session, hosts[0]) == 200
    monkeypatch.setenv("http_proxy", hosts[1].url)
    monkeypatch.setenv("no_proxy", "")
    with new_session() as session:
        assert post(session, hosts[0]) == 200
    assert (len(hosts[0].asked("/token")), len(hosts[1].requests)) == (1, 1)
