"""The connections to APIs, kept for the whole process. All sessions share them.

A session lives as long as one view or one task. With connections of its own it would connect, and load the
CA bundle, for each of them. A kept connection carries nothing of the session that used it before: cookies,
headers and credentials are sent with each request. Connections that differ in TLS settings or in their proxy
are kept apart.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from functools import cache
from http.client import HTTPResponse, RemoteDisconnected
from typing import Any, ClassVar, cast
from weakref import WeakSet

from requests.adapters import HTTPAdapter
from urllib3 import PoolManager
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.util.proxy import connection_requires_http_tunnel

from oauth_connect.protocol.net import contexts
from oauth_connect.protocol.net.bounded import Bounded
from oauth_connect.protocol.net.contexts import KeptContexts, files_of, versions
from oauth_connect.protocol.net.destination import plain_origin
from oauth_connect.protocol.net.transport import FinalResponse

MAX_HOSTS = 100
MAX_PROXIES = 20
MAX_KEPT = 32  # connections without use, for each host. urllib3 logs a warning for each one more
IDLE_SECONDS = 4.0  # less than the 5 seconds after which Node's servers close a connection
# Idempotent methods may be sent again (RFC 9110 section 9.2.2).
SENT_AGAIN = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
ENDED = (
    RemoteDisconnected,
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)
_HAS_STARTED = "oauth_connect_has_started"  # an attribute of errors


class _Response(FinalResponse):
    """A response whose errors know whether the server had started to send it."""

    def begin(self) -> None:
        peek = getattr(self.fp, "peek", None)  # tools that replace sockets have files without it
        has_started = peek is None or bool(peek(1))  # waits for the first byte
        try:
            super().begin()
        except ENDED as error:
            vars(error)[_HAS_STARTED] = has_started
            raise


class _Kept:
    """A mixin for urllib3's pools: closes what was idle for long, and replaces what the server has closed."""

    all: ClassVar[WeakSet[_Kept]]
    lock: ClassVar[threading.Lock]
    last_sweep: ClassVar[float] = 0.0

    def __init__(self, *args: Any, **options: Any) -> None:
        # Noted here, because only Python's own queue shows what it holds. gevent replaces it.
        self._idle_since: dict[Any, float] = {}
        self._idle_lock = threading.Lock()
        super().__init__(*args, **options)
        with _Kept.lock:
            _Kept.all.add(self)

    @staticmethod
    def forget_all() -> None:
        """Begin without pools, and with a lock that nobody holds."""
        _Kept.all = WeakSet()
        _Kept.lock = threading.Lock()

    def _get_conn(self, timeout: float | None = None) -> Any:
        self._close_idle()
        self._sweep()
        with self._idle_lock:
            connection = super()._get_conn(timeout)  # type: ignore[misc]
            self._idle_since.pop(connection, None)
        if connection.response_class is HTTPResponse:
            connection.response_class = _Response
        if _has_unread(connection.sock):
            connection.close()
        # Asked here: a tunnel through a proxy is connected before its first request.
        connection.is_kept = not connection.is_closed
        return connection

    @staticmethod
    def _sweep() -> None:
        """Close what is idle in the pools of other hosts. They may get no request for hours."""
        now = time.monotonic()
        if now - _Kept.last_sweep < IDLE_SECONDS:
            return
        _Kept.last_sweep = now
        with _Kept.lock:
            pools = list(_Kept.all)
        for pool in pools:
            pool._close_idle()

    def _put_conn(self, conn: Any) -> None:
        with self._idle_lock:
            if conn is not None:
                self._idle_since[conn] = time.monotonic()
            super()._put_conn(conn)  # type: ignore[misc]

    def _close_idle(self) -> None:
        limit = time.monotonic() - IDLE_SECONDS
        with self._idle_lock:
            for connection in [one for one, since in self._idle_since.items() if since < limit]:
                connection.close()
                del self._idle_since[connection]

    def _make_request(self, conn: Any, method: str, url: str, *args: Any, **options: Any) -> Any:
        """Send a request. Send it again on a new connection, if a kept one ends before the response begins.

        The server may close a connection while the request is on its way (RFC 9112 section 9.3.1). Once it
        has sent the first byte of a response, it has handled the request.
        """
        is_kept = conn.is_kept and not conn.is_closed
        send = super()._make_request  # type: ignore[misc]
        try:
            return send(conn, method, url, *args, **options)
        except ENDED as error:
            has_started = getattr(error, _HAS_STARTED, False)
            if has_started or not (is_kept and method in SENT_AGAIN and _is_whole(options.get("body"))):
                raise
        conn.close()
        pool = cast("HTTPConnectionPool", self)
        if connection_requires_http_tunnel(pool.proxy, pool.proxy_config, pool.scheme):
            pool._prepare_proxy(conn)
        return send(conn, method, url, *args, **options)


def _has_unread(sock: Any) -> bool:
    """Return whether bytes after the last response were decrypted, where urllib3 does not look for them.

    The next response would begin with them.
    """
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0


def _is_whole(body: object) -> bool:
    """Return whether a body can be sent again. A file or a generator has been read."""
    return body is None or isinstance(body, bytes | str)


@cache
def _keeping(pool: type) -> type:
    return type(pool.__name__, (_Kept, pool), {})  # errors show the name


def _with_kept_connections(manager: PoolManager) -> PoolManager:
    classes: dict[str, Any] = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _keeping(pool) for scheme, pool in classes.items()}
    return manager


class SharedAdapter(KeptContexts, HTTPAdapter):
    """The adapter of all sessions of the process. ``send`` is that of requests; the pools are shared.

    ``close`` closes nothing, because other sessions use the same pools.
    """

    def __init__(self) -> None:
        super().__init__(pool_connections=MAX_HOSTS, pool_maxsize=MAX_KEPT)
        self._inherited: list[Any] = []
        self._open()
        _adapters.add(self)

    def _open(self) -> None:
        self._proxies: Bounded[Any] = Bounded(MAX_PROXIES)
        self._pools: Bounded[Any] = Bounded(MAX_HOSTS)
        _with_kept_connections(self.poolmanager)

    def reopen(self) -> None:
        """Begin with new pools in a forked process. The parent's sockets stay open: it still uses them."""
        self._inherited += [self.poolmanager, self._proxies, self._pools]
        self.init_poolmanager(MAX_HOSTS, MAX_KEPT)
        self._open()

    def close(self) -> None:
        pass

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        def make() -> Any:
            manager = super(SharedAdapter, self).proxy_manager_for(proxy, **options)
            self.proxy_manager.clear()  # requests would keep each one
            return _with_kept_connections(manager)

        return self._proxies.get_or_make(proxy, make)

    def get_connection_with_tls_context(
        self, request: Any, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        """Return the pool for a request. It is kept by what it depends on: the origin and the TLS files.

        requests parses the URL, and urllib3 makes a key of thirty fields, for each request.
        """

        def find() -> Any:
            return super(SharedAdapter, self).get_connection_with_tls_context(request, verify, proxies, cert)

        origin = "" if proxies else plain_origin(request.url)
        if not origin:
            return find()
        found = versions(files_of(verify, cert)) if origin.startswith("https:") else ()
        return self._pools.get_or_make((origin, found), find)

    def request_url(self, request: Any, proxies: Any) -> str:
        """Return the target of the request line. Without a proxy, it is the path."""
        path: str = request.path_url
        # Two slashes: some versions of requests change them.
        return super().request_url(request, proxies) if proxies or path.startswith("//") else path


_adapters: WeakSet[SharedAdapter] = WeakSet()
_Kept.forget_all()


def _after_fork() -> None:
    _Kept.forget_all()
    contexts.forget_all()
    for adapter in list(_adapters):
        adapter.reopen()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

shared_adapter = SharedAdapter()
