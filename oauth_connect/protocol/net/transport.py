"""A requests session for authorization servers, with a deadline for every exchange.

requests limits each wait for bytes, but not the whole call. A server that sends one byte per second could
hold a call forever. Here each read waits only until the deadline, and the decoded body has a size limit.
"""

from __future__ import annotations

import io
import json
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from http.client import SWITCHING_PROTOCOLS, HTTPException, HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlencode

import requests
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError
from urllib3.util import Retry, Timeout

from oauth_connect.protocol.net.bounded import Bounded
from oauth_connect.protocol.net.causes import CertificatesMissing, HandshakeFailed
from oauth_connect.protocol.net.contexts import FileMissing, KeptContexts
from oauth_connect.protocol.net.environment import KeptEnvironment
from oauth_connect.protocol.net.preparation import begin
from oauth_connect.redaction import hidden

BODY_LIMIT = 1024 * 1024
CHUNK = 64 * 1024
MAX_PREPARED = 256
_NO_RETRIES = Retry(False, redirect=False)  # as urllib3 makes one of False, for each request

_deadline: ContextVar[float] = ContextVar("oauth_connect_deadline")


class BodyTooLarge(requests.RequestException):
    """The decoded body is larger than BODY_LIMIT."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Limit all exchanges inside the block to ``seconds`` in total."""
    reset = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(reset)


def remaining() -> float:
    """Return the seconds until the deadline. Raises TimeoutError after it."""
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left


def read_capped(chunks: Iterable[bytes]) -> bytes:
    """Return the decoded body made of these chunks. Raises BodyTooLarge above 1 MiB."""
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > BODY_LIMIT:
            raise BodyTooLarge("the response is larger than 1 MiB")
    return bytes(body)


class _DeadlineReader(io.RawIOBase):
    """A raw reader of a socket that waits at most until the deadline."""

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
    """The part of a socket that http.client.HTTPResponse uses. Its reads keep the deadline."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._sock))


class FinalResponse(HTTPResponse):
    """A response without the interim ones before it (RFC 9110 section 15.2).

    http.client skips 100 alone. It would return 102 or 103, and the next request on the connection would
    read the final response to this one.
    """

    def begin(self) -> None:
        super().begin()
        while 100 < self.status < 200 and self.status != SWITCHING_PROTOCOLS:
            self.headers = self.msg = None  # type: ignore[assignment]
            super().begin()
        if self.status == SWITCHING_PROTOCOLS:  # what follows is not HTTP
            self.will_close = True


class Deadlined:
    """A mixin for urllib3's connections that keeps the deadline."""

    _parts: list[bytes] | None = None

    def response_class(self, sock: socket.socket, **options: Any) -> HTTPResponse:
        return FinalResponse(_DeadlineSocket(sock), **options)  # type: ignore[arg-type]

    def connect(self) -> None:
        """Connect, with TLS and through a proxy. Its errors show that no request was sent yet."""
        try:
            super().connect()  # type: ignore[misc]
            remaining()  # name resolution and several addresses may take longer than the deadline
        except ssl.SSLCertVerificationError:
            raise
        except ssl.SSLError as error:
            raise HandshakeFailed(*error.args) from None
        except TimeoutError:
            self.close()  # type: ignore[attr-defined]
            raise ConnectTimeoutError(self, "connecting took too long") from None
        except OSError as error:  # during the handshake
            raise NewConnectionError(self, type(error).__name__) from None  # type: ignore[arg-type]

    def _tunnel(self) -> None:
        try:
            super()._tunnel()  # type: ignore[misc]
        except (OSError, HTTPException) as error:
            raise ProxyError("The proxy opened no tunnel.", error) from None

    def request(self, *args: Any, **options: Any) -> None:
        """Send head and body in one system call, because each call may cause a thread switch."""
        self._parts = []
        try:
            super().request(*args, **options)  # type: ignore[misc]
            message = b"".join(self._parts)
        finally:
            self._parts = None
        self.send(message)

    def send(self, data: Any) -> None:
        if self._parts is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._parts.append(data)


class DeadlinedHTTPConnection(Deadlined, HTTPConnection):  # type: ignore[misc]
    pass


class DeadlinedHTTPSConnection(Deadlined, HTTPSConnection):  # type: ignore[misc]
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = DeadlinedHTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = DeadlinedHTTPSConnection


class DeadlineAdapter(KeptContexts):
    """An adapter without retries. Its connections keep the deadline, also through proxies."""

    def __init__(self, pool_size: int = 10) -> None:
        super().__init__(pool_connections=pool_size, pool_maxsize=pool_size, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def route(self, request: requests.PreparedRequest, environment: Any) -> tuple[Any, str]:
        """Return the pool and the target, as ``send`` finds them, for requests that bypass ``send``."""
        proxies, verify, cert = environment["proxies"], environment["verify"], environment["cert"]
        pool: Any = self.get_connection_with_tls_context(request, verify, proxies=proxies, cert=cert)
        return pool, self.request_url(request, proxies)

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        """Return the pool. Raises CertificatesMissing: an OSError would look like a lost response."""
        try:
            return super().get_connection_with_tls_context(*args, **options)
        except FileMissing as error:
            raise CertificatesMissing(str(error)) from None

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


@dataclass(frozen=True, slots=True)
class _Route:
    """How to send a request to a URL: the connection pool (direct or proxy), the target and the headers."""

    pool: HTTPConnectionPool
    target: str
    headers: Mapping[str, str]


@lru_cache(maxsize=MAX_PREPARED)
def _prepared(method: str, url: str, headers: tuple[tuple[str, str], ...]) -> requests.PreparedRequest:
    """Return a request without credentials and body. A callback has a new session, and the same requests."""
    request = requests.Request(method, url, headers=dict(headers)).prepare()
    request.headers.pop("Content-Length", None)  # of the empty body
    return request


class ServerSession(KeptEnvironment):
    """A thread-safe requests session for authorization servers.

    ``pool_size``: the number of URLs whose routes it caches.
    """

    def __init__(self, pool_size: int, adapter: DeadlineAdapter) -> None:
        begin(self, adapter)
        self._routes: Bounded[_Route] = Bounded(pool_size)

    def close(self) -> None:
        super().close()
        self._routes.clear()

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None. Otherwise requests reads a redirect's whole body even if it does not follow it."""

    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        credentials: Mapping[str, str],
        form: Mapping[str, str] | None = None,
        document: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Exchanged:
        """Send a request within the deadline and return the whole response, with any status.

        ``headers`` are the same in every call, ``credentials`` are additional headers of this call. The body
        is ``form``, or ``document`` as JSON. ``query`` is added to the URL's own. requests only chooses
        proxies and certificates. The request then goes directly to the pool, because ``Session.request`` is
        much slower. Raises RequestException, urllib3's HTTPError, or OSError after the deadline.
        """
        route = self._route(method, url, headers)
        all_headers = {**route.headers, **credentials}
        body = None
        if document is not None:
            body = json.dumps(document, allow_nan=False).encode()
            all_headers["Content-Type"] = "application/json"
        elif form:
            body = urlencode(form).encode()
            all_headers["Content-Type"] = "application/x-www-form-urlencoded"
        in_query = urlencode(query) if query else ""
        # urllib3 logs the request line. The query has secrets under names that only the entry knows.
        with hidden(in_query) if in_query else nullcontext():
            response = route.pool.urlopen(
                method,
                _with_query(route.target, in_query),
                body=body,
                headers=all_headers,
                timeout=Timeout(connect=remaining(), read=remaining()),
                retries=_NO_RETRIES,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
            )
        with response:
            body = read_capped(response.stream(CHUNK))
        return Exchanged(response.status, response.headers, body)

    def _route(self, method: str, url: str, headers: Mapping[str, str]) -> _Route:
        """Return the route of a request. It is cached, because preparing it is half of the cost of a call."""

        def find() -> _Route:
            request = _prepared(method, url, tuple({**self.headers, **headers}.items()))
            environment = self.merge_environment_settings(request.url, {}, True, None, None)
            adapter: Any = self.get_adapter(str(request.url))
            pool, target = adapter.route(request, environment)
            return _Route(pool, target, dict(request.headers))

        return self._routes.get_or_make((method, url, *headers.items()), find)


def _with_query(target: str, query: str) -> str:
    return f"{target}{'&' if '?' in target else '?'}{query}" if query else target


@dataclass(frozen=True, slots=True, repr=False)
class Exchanged:
    """A complete HTTP response with its undecoded body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def new_session(pool_size: int = 10, adapter: DeadlineAdapter | None = None) -> ServerSession:
    """Return a session for token endpoints: deadline, no redirects, no retries, no compression, no cookies.

    It does not read ``.netrc``. ``pool_size``: the number of connections kept open per host, and the number
    of hosts.
    """
    session = ServerSession(pool_size, adapter or DeadlineAdapter(pool_size))
    session.auth = _without_credentials
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers["Accept-Encoding"] = "identity"
    session.headers["Accept"] = "application/json"
    return session


def _without_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add no credentials. With an ``auth``, requests does not read ``.netrc``."""
    return request
