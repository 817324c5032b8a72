"""The connections that the sessions of a process share, over real sockets."""

from __future__ import annotations

import gc
import io
import ipaddress
import os
import queue
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from cryptography import x509
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool

from oauth_connect.protocol.net import contexts as kept_contexts
from oauth_connect.protocol.net import pool
from oauth_connect.protocol.net.pool import SharedAdapter
from tests.protocol.certificates import self_signed
from tests.servers.connect_proxy import ConnectProxy
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.waiting import TIMEOUT

LOST = Answer(cut=-1)
HELLO = Answer(body={"n": 1})


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> SharedAdapter:
    """Pools of this test alone."""
    monkeypatch.setattr(pool, "IDLE_SECONDS", 3600)  # a busy machine may take long between two calls
    return SharedAdapter()


@pytest.fixture
def open_session(adapter: SharedAdapter) -> Iterator[Callable[..., requests.Session]]:
    opened: list[requests.Session] = []

    def make() -> requests.Session:
        session = requests.Session()
        for prefix in ("https://", "http://"):
            session.mount(prefix, adapter)
        opened.append(session)
        return session

    yield make
    for session in opened:
        session.close()


def test_sessions_use_the_same_connection(scripted, open_session):
    scripted.on("/x", HELLO)
    for _ in range(5):
        with open_session() as session:
            assert session.get(f"{scripted.url}/x").json() == {"n": 1}
    assert len(scripted.accepted) == 1


@pytest.mark.parametrize("lost", [LOST, Answer(reset=True)], ids=["closed", "reset"])
@pytest.mark.parametrize("method", sorted(pool.SENT_AGAIN - {"HEAD"}))
def test_an_idempotent_request_is_sent_again_where_a_kept_connection_ended(
    scripted, open_session, method, lost
):
    scripted.on("/x", HELLO, lost, HELLO)
    open_session().get(f"{scripted.url}/x")
    body = {"data": b"body"} if method in ("PUT", "DELETE") else {}
    assert open_session().request(method, f"{scripted.url}/x", **body).json() == {"n": 1}
    assert [asked.method for asked in scripted.asked("/x")] == ["GET", method, method]
    assert len({asked.body for asked in scripted.asked("/x")[1:]}) == 1


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_another_request_is_never_sent_again(scripted, open_session, method):
    scripted.on("/x", HELLO, LOST, HELLO)
    open_session().get(f"{scripted.url}/x")
    with pytest.raises(requests.ConnectionError):
        open_session().request(method, f"{scripted.url}/x", data=b"body")
    assert [asked.method for asked in scripted.asked("/x")] == ["GET", method]


def test_a_request_on_a_new_connection_is_not_sent_again(scripted, open_session):
    scripted.on("/x", LOST, HELLO)
    with pytest.raises(requests.ConnectionError):
        open_session().get(f"{scripted.url}/x")
    assert len(scripted.asked("/x")) == 1


def test_a_request_is_sent_again_once(scripted, open_session):
    scripted.on("/x", HELLO, LOST, LOST, HELLO)
    open_session().get(f"{scripted.url}/x")
    with pytest.raises(requests.ConnectionError):
        open_session().get(f"{scripted.url}/x")
    assert len(scripted.asked("/x")) == 3


def test_a_body_that_was_read_is_not_sent_again(scripted, open_session):
    scripted.on("/x", HELLO, LOST, HELLO)
    open_session().get(f"{scripted.url}/x")
    with pytest.raises(requests.ConnectionError):
        open_session().put(f"{scripted.url}/x", data=iter([b"a", b"b"]))
    assert len(scripted.asked("/x")) == 2


BROKEN_OFF = [
    Answer(body={"n": 2}, cut=0),
    Answer(body={"n": 2}, cut=3),
    Answer(reset=True, beginning=b"H"),
    Answer(reset=True, beginning=b"HTTP/1.1 200 OK\r\nContent-Le"),
    Answer(reset=True, beginning=b"HTTP/1.1 100 Continue\r\n\r\n"),
]


@pytest.mark.parametrize(
    "broken", BROKEN_OFF, ids=["after the head", "in the body", "in the status", "in the head", "after 100"]
)
def test_a_response_that_breaks_off_is_not_asked_for_again(scripted, open_session, broken):
    scripted.on("/x", HELLO, broken, HELLO)
    open_session().get(f"{scripted.url}/x")
    with pytest.raises(requests.RequestException):
        open_session().get(f"{scripted.url}/x")
    assert len(scripted.asked("/x")) == 2
    assert open_session().get(f"{scripted.url}/x").json() == {"n": 1}


def test_a_connection_that_was_idle_for_long_is_closed(scripted, open_session, monkeypatch):
    scripted.on("/x", HELLO)
    open_session().get(f"{scripted.url}/x")
    monkeypatch.setattr(pool, "IDLE_SECONDS", -1)
    open_session().post(f"{scripted.url}/x")
    assert len(scripted.accepted) == 2


def test_a_connection_of_another_host_that_was_idle_for_long_is_closed(
    scripted, second, adapter, open_session, monkeypatch
):
    scripted.on("/x", HELLO)
    second.on("/x", HELLO)
    open_session().get(f"{scripted.url}/x")
    (idle,) = kept(adapter)
    monkeypatch.setattr(pool, "IDLE_SECONDS", -1)
    open_session().get(f"{second.url}/x")
    assert idle.is_closed
    assert len(kept(adapter)) == 1


def test_nothing_of_a_session_reaches_the_next_one(scripted, open_session):
    scripted.on("/x", Answer(body={}, headers={"Set-Cookie": "session=first"}))
    first = open_session()
    first.headers["X-Own"] = "first"
    first.auth = ("first", "password")
    first.get(f"{scripted.url}/x")
    first.get(f"{scripted.url}/x")
    second = open_session().get(f"{scripted.url}/x")
    assert second.status_code == 200
    mine, other = scripted.asked("/x")[1:]
    assert mine.headers["Cookie"] == "session=first"
    assert not {"Cookie", "X-Own", "Authorization"} & other.headers.keys()
    assert len(scripted.accepted) == 1


def test_an_unread_response_gives_its_connection_to_nobody(scripted, open_session):
    scripted.on("/x", Answer(body=b"x" * 100_000), HELLO)
    unread = open_session().get(f"{scripted.url}/x", stream=True)
    assert open_session().get(f"{scripted.url}/x").json() == {"n": 1}
    assert len(scripted.accepted) == 2
    unread.close()
    assert open_session().get(f"{scripted.url}/x").json() == {"n": 1}


@pytest.mark.parametrize("status", ["102 Processing", "103 Early Hints"])
def test_an_interim_response_is_not_taken_for_the_final_one(scripted, open_session, status):
    """Otherwise the next session on the connection would get the response to this request."""

    def hint() -> None:
        scripted.accepted[-1].sendall(f"HTTP/1.1 {status}\r\nLink: </x>\r\n\r\n".encode())

    scripted.on("/x", Answer(body={"n": 1}, until=hint), Answer(body={"n": 2}))
    assert open_session().get(f"{scripted.url}/x").json() == {"n": 1}
    assert open_session().get(f"{scripted.url}/x").json() == {"n": 2}
    assert len(scripted.accepted) == 1


def test_a_connection_that_changed_its_protocol_is_not_kept(scripted, open_session):
    scripted.on("/x", Answer(101), HELLO)
    assert open_session().get(f"{scripted.url}/x").status_code == 101
    assert open_session().get(f"{scripted.url}/x").json() == {"n": 1}
    assert len(scripted.accepted) == 2


def test_threads_share_the_pool(scripted, open_session):
    scripted.on("/x", HELLO)

    def call(_: int) -> int:
        with open_session() as session:
            return session.get(f"{scripted.url}/x").status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(call, range(80))) == {200}
    assert len(scripted.accepted) <= 8


def test_the_number_of_hosts_is_bounded(monkeypatch):
    monkeypatch.setattr(pool, "MAX_HOSTS", 3)
    monkeypatch.setattr(pool, "IDLE_SECONDS", 3600)
    adapter, servers = SharedAdapter(), [ScriptedServer() for _ in range(7)]
    try:
        with requests.Session() as session:
            session.mount("http://", adapter)
            for server in servers:
                server.on("/x", HELLO)
                session.get(f"{server.url}/x")
        gc.collect()
        kept = [p for key in list(adapter.poolmanager.pools.keys()) if (p := adapter.poolmanager.pools[key])]
        assert len(kept) == 3
    finally:
        for server in servers:
            server.close()


def prepared(url: str) -> requests.PreparedRequest:
    return requests.Request("GET", url).prepare()


def test_of_a_thousand_hosts_the_pools_used_last_are_kept(adapter):
    before = set(pool._Kept.all)
    often = adapter.get_connection_with_tls_context(prepared("http://often.example/"), True)
    for number in range(1000):
        adapter.get_connection_with_tls_context(prepared(f"http://h{number}.example/"), True)
        assert adapter.get_connection_with_tls_context(prepared("http://often.example/"), True) is often
    gc.collect()
    # Our own, and those of urllib3, which does not see each use.
    assert len(set(pool._Kept.all) - before) <= pool.MAX_HOSTS + 1


class OpaqueQueue:
    """The queue of urllib3 as gevent replaces it: it shows neither its lock nor what it holds."""

    def __init__(self, maxsize: int) -> None:
        hidden = queue.LifoQueue[Any](maxsize)
        self.get, self.put, self.qsize = hidden.get, hidden.put, hidden.qsize


def test_a_queue_of_another_kind_serves(scripted, open_session, monkeypatch):
    monkeypatch.setattr(HTTPConnectionPool, "QueueCls", OpaqueQueue)
    scripted.on("/x", HELLO)
    session = open_session()
    for _ in range(3):
        assert session.get(f"{scripted.url}/x").status_code == 200
    assert len(scripted.accepted) == 1
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0)
    assert session.get(f"{scripted.url}/x").status_code == 200
    assert len(scripted.accepted) == 2


def test_urllib3_is_asked_once_for_the_pool_of_a_host(scripted, open_session, monkeypatch):
    asked: list[str] = []
    find = HTTPAdapter.get_connection_with_tls_context

    def counted(self: Any, request: Any, *args: Any, **options: Any) -> Any:
        asked.append(request.url)
        return find(self, request, *args, **options)

    monkeypatch.setattr(HTTPAdapter, "get_connection_with_tls_context", counted)
    scripted.on("/x", HELLO)
    for number in range(100):
        open_session().get(f"{scripted.url}/x?number={number}")
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h.example", "/"),
        ("http://h.example/a?b=c#d", "/a?b=c"),
        ("http://h.example//a", None),
        ("http://h.example?b", "/?b"),
    ],
)
def test_the_target_is_that_of_requests(adapter, url, target):
    expected = HTTPAdapter().request_url(prepared(url), {})
    assert adapter.request_url(prepared(url), {}) == expected
    assert target in (None, expected)
    proxies = {"http": "http://proxy.example"}
    expected = HTTPAdapter().request_url(prepared(url), proxies)
    assert adapter.request_url(prepared(url), proxies) == expected


@pytest.mark.process
class TestForks:
    def test_a_child_of_a_call_in_another_thread_leaves_that_call_alone(self, scripted, open_session):
        under_way = threading.Event()
        scripted.on("/held", Answer(body={"n": 2}, hold=under_way))
        scripted.on("/x", HELLO)
        session = open_session()
        session.get(f"{scripted.url}/x")
        with ThreadPoolExecutor(1) as threads:
            held = threads.submit(session.get, f"{scripted.url}/held")
            scripted.wait_for("/held")
            assert in_child(lambda: session.get(f"{scripted.url}/x").status_code == 200)
            under_way.set()
            assert held.result().json() == {"n": 2}
        assert session.get(f"{scripted.url}/x").status_code == 200
        assert len(scripted.accepted) == 2

    def test_a_child_makes_its_own_connections_and_leaves_its_parents_open(self, scripted, open_session):
        scripted.on("/x", HELLO)
        session = open_session()
        session.get(f"{scripted.url}/x")
        assert in_child(lambda: session.get(f"{scripted.url}/x").status_code == 200)
        assert len(scripted.accepted) == 2
        assert session.post(f"{scripted.url}/x").status_code == 200
        assert len(scripted.accepted) == 2

    def test_a_child_closes_no_connection_that_only_our_own_list_keeps(
        self, scripted, second, open_session, monkeypatch
    ):
        """urllib3 drops the pool of a host that it was not asked for lately, though it was used."""
        monkeypatch.setattr(pool, "MAX_HOSTS", 1)
        monkeypatch.setattr(pool, "IDLE_SECONDS", 3600)
        adapter, session = SharedAdapter(), open_session()
        session.mount("http://", adapter)
        scripted.on("/x", HELLO)
        session.get(f"{scripted.url}/x")
        (idle,) = kept(adapter)
        adapter.poolmanager.connection_from_url(second.url)
        assert kept(adapter) == []
        assert in_child(lambda: gc.collect() >= 0 and not idle.is_closed)
        assert session.get(f"{scripted.url}/x").status_code == 200
        assert len(scripted.accepted) == 1

    def test_a_child_answers_while_its_parent_holds_every_lock(self, scripted, adapter, open_session):
        scripted.on("/x", HELLO)
        session = open_session()
        kept = (kept_contexts._contexts, adapter._proxies, adapter._pools)
        with kept[0]._lock, kept[1]._lock, kept[2]._lock, adapter.poolmanager.pools.lock, pool._Kept.lock:
            assert in_child(lambda: session.get(f"{scripted.url}/x").status_code == 200)


def kept(adapter: SharedAdapter) -> list[Any]:
    """Return the open connections without use."""
    pools = [adapter.poolmanager.pools[key] for key in adapter.poolmanager.pools.keys()]  # noqa: SIM118
    return [one for each in pools for one in each.pool.queue if one is not None and not one.is_closed]


def in_child(act: Callable[[], bool]) -> bool:
    child = os.fork()
    if child == 0:
        result = 1
        try:
            result = 0 if act() else 1
        finally:
            os._exit(result)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class TestTLS:
    @pytest.fixture
    def contexts(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """Record the contexts that are made."""
        made: list[Any] = []
        make = kept_contexts._context
        monkeypatch.setattr(kept_contexts, "_context", lambda *files: made.append(files) or make(*files))
        kept_contexts.forget_all()
        return made

    def test_the_bundle_is_loaded_once(self, tls_server, certificate, open_session, contexts):
        tls_server.on("/x", HELLO, Answer(body={}, headers={"Connection": "close"}), HELLO)
        for _ in range(4):
            with open_session() as session:
                assert session.get(f"{tls_server.url}/x", verify=str(certificate)).status_code == 200
        assert len(contexts) == 1

    def test_a_connection_without_verification_serves_no_other_session(
        self, tls_server, certificate, open_session
    ):
        tls_server.on("/x", HELLO)
        with pytest.warns(match="Unverified"):
            open_session().get(f"{tls_server.url}/x", verify=False)
        with pytest.raises(requests.exceptions.SSLError):
            open_session().get(f"{tls_server.url}/x")
        open_session().get(f"{tls_server.url}/x", verify=str(certificate))
        with pytest.raises(requests.exceptions.SSLError):
            open_session().get(f"{tls_server.url}/x")

    def test_a_bundle_that_is_replaced_counts_for_the_next_call(
        self, tls_server, certificate, open_session, tmp_path
    ):
        tls_server.on("/x", HELLO)
        bundle = tmp_path / "bundle.pem"
        bundle.write_bytes(certificate.read_bytes())
        open_session().get(f"{tls_server.url}/x", verify=str(bundle))
        (tmp_path / "other").mkdir()
        other = self_signed(x509.IPAddress(ipaddress.ip_address("127.0.0.1")), tmp_path / "other")
        os.replace(other, bundle)
        with pytest.raises(requests.exceptions.SSLError):
            open_session().get(f"{tls_server.url}/x", verify=str(bundle))

    def test_bytes_after_a_response_are_never_the_next_one(self, tls_server, certificate, open_session):
        """They are decrypted already. So the socket looks as if nothing had come."""
        head, stray = b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"
        asked_again = threading.Event()

        def respond() -> None:
            tls_server.accepted[0].sendall(head + b"x" * (io.DEFAULT_BUFFER_SIZE - len(head)) + stray)
            asked_again.wait(TIMEOUT)

        tls_server.on("/x", Answer(until=respond, cut=-1))
        tls_server.on("/y", HELLO)
        verify = str(certificate)
        assert open_session().get(f"{tls_server.url}/x", verify=verify).status_code == 204
        try:
            assert open_session().get(f"{tls_server.url}/y", verify=verify).json() == {"n": 1}
        finally:
            asked_again.set()

    def test_a_missing_file_is_named(self, open_session, certificate):
        for options in ({"verify": "/missing.pem"}, {"verify": str(certificate), "cert": "/missing.pem"}):
            with pytest.raises(OSError, match=r"invalid path: /missing\.pem"):
                open_session().get("https://127.0.0.1:1/", **options)

    def test_a_client_certificate_is_sent_by_its_session_only(self, certificate, open_session, tmp_path):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.load_verify_locations(certificate)
        context.verify_mode = ssl.CERT_OPTIONAL
        server = ScriptedServer(context)
        try:
            server.on("/x", HELLO)
            path = str(certificate)
            for cert in (path, None, (path, path), [path, path]):
                open_session().get(f"{server.url}/x", verify=str(certificate), cert=cert)
            shown = [bool(one.getpeercert(binary_form=True)) for one in server.accepted]  # type: ignore[attr-defined]
            assert shown == [True, False, True]  # the list is the pair of before: the same connection
        finally:
            server.close()


class TestProxies:
    def test_a_proxy_that_changes_in_the_environment_counts_for_the_next_call(
        self, scripted, second, open_session, monkeypatch
    ):
        scripted.on("/x", HELLO)
        second.on("/x", Answer(body={"n": 2}))
        session = open_session()
        assert session.get(f"{scripted.url}/x").json() == {"n": 1}
        monkeypatch.setenv("HTTP_PROXY", second.url.replace("//", "//user:password@"))
        monkeypatch.setenv("http_proxy", second.url.replace("//", "//user:password@"))
        session.get(f"{scripted.url}/x")
        monkeypatch.delenv("HTTP_PROXY")
        monkeypatch.delenv("http_proxy")
        assert session.get(f"{scripted.url}/x").json() == {"n": 1}
        assert len(scripted.asked("/x")) == 2
        assert all("Proxy-Authorization" not in asked.headers for asked in scripted.asked("/x"))


class TestTunnels:
    """https through a proxy."""

    @pytest.fixture
    def connect_proxy(self) -> Iterator[ConnectProxy]:
        proxy = ConnectProxy()
        yield proxy
        proxy.close()

    @pytest.fixture
    def call(self, tls_server, connect_proxy, certificate, open_session) -> Callable[..., requests.Response]:
        def get(credentials: str = "", method: str = "GET", **options: Any) -> requests.Response:
            proxies = {"https": f"http://{credentials}{connect_proxy.authority}"}
            options = {"verify": str(certificate), "proxies": proxies, **options}
            return open_session().request(method, f"{tls_server.url}/x", **options)

        return get

    def test_a_tunnel_is_kept_and_replaced_where_it_ended(self, tls_server, connect_proxy, call):
        tls_server.on("/x", HELLO, HELLO, LOST, HELLO)
        for _ in range(3):
            assert call("user:password@").json() == {"n": 1}
        assert len(connect_proxy.heads) == 2
        assert all("Proxy-Authorization: Basic" in head for head in connect_proxy.heads)
        assert all("Proxy-Authorization" not in asked.headers for asked in tls_server.asked("/x"))

    def test_a_request_through_a_new_tunnel_is_not_sent_again(self, tls_server, call):
        tls_server.on("/x", LOST, HELLO)
        with pytest.raises(requests.ConnectionError):
            call()
        assert len(tls_server.asked("/x")) == 1

    def test_a_post_through_a_kept_tunnel_is_not_sent_again(self, tls_server, call):
        tls_server.on("/x", HELLO, LOST, HELLO)
        call()
        with pytest.raises(requests.ConnectionError):
            call(method="POST")
        assert len(tls_server.asked("/x")) == 2

    def test_other_credentials_have_a_tunnel_of_their_own(self, tls_server, connect_proxy, call):
        tls_server.on("/x", HELLO)
        for credentials in ("one:1@", "two:2@", "", "one:1@"):
            call(credentials)
        assert len(connect_proxy.heads) == 3
        assert "Proxy-Authorization" not in connect_proxy.heads[2]

    def test_a_proxy_with_https_is_verified_by_the_same_bundle(self, tls_server, certificate, call, tmp_path):
        """It never gets the client certificate."""
        tls_server.on("/x", HELLO)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.load_verify_locations(certificate)
        context.verify_mode = ssl.CERT_OPTIONAL
        proxy = ConnectProxy(context)
        try:
            proxies = {"https": f"https://{proxy.authority}"}
            assert call(proxies=proxies, cert=str(certificate)).json() == {"n": 1}
            assert proxy.certificates == [False]
            (tmp_path / "other").mkdir()
            other = self_signed(x509.IPAddress(ipaddress.ip_address("127.0.0.1")), tmp_path / "other")
            with pytest.raises(requests.exceptions.ProxyError):
                call(proxies=proxies, verify=str(other))
        finally:
            proxy.close()
