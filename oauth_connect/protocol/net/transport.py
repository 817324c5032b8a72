"""A requests session for authorization servers, with an end to every call.

requests bounds each wait for bytes, not the call: a server that sends one byte a second holds
it for ever. Here a deadline stands for the whole exchange, each read waits for what is left
of it, and the body is capped after decoding.
"""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlencode

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError
from urllib3.util import Timeout

BODY_LIMIT = 1024 * 1024
CHUNK = 64 * 1024

_deadline: ContextVar[float] = ContextVar("oauth_connect_deadline")


class BodyTooLarge(requests.RequestException):
    """The decoded body passed BODY_LIMIT."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Give every exchange inside ``seconds`` in all, from its first byte to its last."""
    reset = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(reset)


def remaining() -> float:
    """Seconds left; raises TimeoutError when there are none."""
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left


def read_capped(chunks: Iterable[bytes]) -> bytes:
    """Return the decoded body of which these are the chunks. Raises BodyTooLarge beyond 1 MiB."""
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > BODY_LIMIT:
            raise BodyTooLarge("the answer is larger than 1 MiB")
    return bytes(body)


class _DeadlineReader(io.RawIOBase):
    """A socket's raw reader that waits for no longer than the deadline allows."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(remaining())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineSocket:
    """What http.client.HTTPResponse asks of a socket, reading through the deadline."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._sock))


class Deadlined:
    """Mixed into urllib3's connections."""

    _parts: list[bytes] | None = None

    def response_class(self, sock: socket.socket, **options: Any) -> HTTPResponse:
        return HTTPResponse(_DeadlineSocket(sock), **options)  # type: ignore[arg-type]

    def connect(self) -> None:
        # Name resolution and several addresses may outlast the deadline; nothing has been sent yet.
        super().connect()  # type: ignore[misc]
        try:
            remaining()
        except TimeoutError:
            self.close()  # type: ignore[attr-defined]
            raise ConnectTimeoutError(self, "connecting took too long") from None

    def request(self, *args: Any, **options: Any) -> None:
        """Send head and body by one system call: among many threads, each is a turn to wait for."""
        self._parts = []
        try:
            super().request(*args, **options)  # type: ignore[misc]
            whole = b"".join(self._parts)
        finally:
            self._parts = None
        self.send(whole)

    def send(self, data: Any) -> None:
        if self._parts is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._parts.append(data)


class _DeadlinedHTTPConnection(Deadlined, HTTPConnection):  # type: ignore[misc]
    pass


class _DeadlinedHTTPSConnection(Deadlined, HTTPSConnection):  # type: ignore[misc]
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _DeadlinedHTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _DeadlinedHTTPSConnection


class DeadlineAdapter(HTTPAdapter):
    """An adapter without retries whose connections keep the deadline, through proxies too."""

    def __init__(self, pool_size: int = 10) -> None:
        super().__init__(pool_connections=pool_size, pool_maxsize=pool_size, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def route(self, request: requests.PreparedRequest, environment: Any) -> tuple[Any, str]:
        """Find the way as ``send`` does, for requests that are sent without it."""
        proxies, verify, cert = environment["proxies"], environment["verify"], environment["cert"]
        pool: Any = self.get_connection_with_tls_context(request, verify, proxies=proxies, cert=cert)
        self.cert_verify(pool, request.url, verify, cert)  # type: ignore[no-untyped-call]
        return pool, self.request_url(request, proxies)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


@dataclass(frozen=True, slots=True)
class _Route:
    """How a URL is reached: the pool, behind a proxy or not, what to ask it for, and with which headers."""

    pool: HTTPConnectionPool
    target: str
    headers: Mapping[str, str]


class _Routes:
    """The routes used last. One that is dropped is not closed: its pool ends with the last who uses it."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._guard = threading.Lock()
        self._kept: OrderedDict[tuple[Any, ...], _Route] = OrderedDict()

    def get(self, key: tuple[Any, ...]) -> _Route | None:
        with self._guard:
            route = self._kept.get(key)
            if route is not None:
                self._kept.move_to_end(key)
            return route

    def keep(self, key: tuple[Any, ...], route: _Route) -> None:
        with self._guard:
            self._kept[key] = route
            self._kept.move_to_end(key)
            if len(self._kept) > self._at_most:
                self._kept.popitem(last=False)

    def clear(self) -> None:
        with self._guard:
            self._kept.clear()


class ServerSession(requests.Session):
    """A requests session for authorization servers. Safe for threads, for which it keeps connections.

    ``pool_size``: to how many hosts it does.
    """

    def __init__(self, pool_size: int) -> None:
        super().__init__()
        self._routes = _Routes(pool_size)

    def close(self) -> None:
        super().close()
        self._routes.clear()

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere. requests would read a redirect's whole body even where it does not follow it."""

    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        credentials: Mapping[str, str],
        form: Mapping[str, str] | None = None,
        document: Mapping[str, str] | None = None,
    ) -> Exchanged:
        """Send a request within the deadline and return the whole answer, whatever its status.

        ``headers`` are the same for every call, ``credentials`` are this one's headers; ``form`` or
        ``document`` (as JSON) is the body. requests finds the way (proxies, certificates); the pool is
        then asked directly, at a fraction of what ``Session.request`` costs. Raises RequestException,
        urllib3's HTTPError, or OSError where the deadline passes.
        """
        route = self._route(method, url, headers)
        sent = {**route.headers, **credentials}
        body = None
        if document is not None:
            body = json.dumps(document, allow_nan=False).encode()
            sent["Content-Type"] = "application/json"
        elif form:
            body = urlencode(form).encode()
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        response = route.pool.urlopen(
            method,
            route.target,
            body=body,
            headers=sent,
            timeout=Timeout(connect=remaining(), read=remaining()),
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
        )
        with response:
            body = read_capped(response.stream(CHUNK))
        return Exchanged(response.status, response.headers, body)

    def _route(self, method: str, url: str, headers: Mapping[str, str]) -> _Route:
        """Read the URL, the headers and the environment once: for every call it would be half of its cost."""
        key = (method, url, *headers.items())
        route = self._routes.get(key)
        if route is None:
            request = requests.Request(method, url, headers={**self.headers, **headers}).prepare()
            environment = self.merge_environment_settings(request.url, {}, True, None, None)
            adapter: Any = self.get_adapter(str(request.url))
            pool, target = adapter.route(request, environment)
            request.headers.pop("Content-Length", None)  # that of no body
            route = _Route(pool, target, dict(request.headers))
            self._routes.keep(key, route)
        return route


@dataclass(frozen=True, slots=True, repr=False)
class Exchanged:
    """A whole answer, as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def new_session(pool_size: int = 10) -> ServerSession:
    """Return a session for token endpoints: deadline, no redirects, no retries, no compression, no cookies.

    ``pool_size``: how many connections to one host are kept, for as many threads, and to how many hosts.
    """
    session = ServerSession(pool_size)
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers["Accept-Encoding"] = "identity"
    session.headers["Accept"] = "application/json"
    for prefix in ("https://", "http://"):
        session.mount(prefix, DeadlineAdapter(pool_size))
    return session
