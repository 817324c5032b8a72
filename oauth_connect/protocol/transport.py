"""A requests session for authorization servers, with an end to every call.

requests bounds each wait for bytes, not the call: a server that sends one byte a second holds
it for ever. Here a deadline stands for the whole exchange, each read waits for what is left
of it, and the body is capped after decoding.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http.client import HTTPResponse
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError

BODY_LIMIT = 1024 * 1024

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


def read_capped(response: requests.Response) -> bytes:
    """Return the decoded body. Raises BodyTooLarge beyond 1 MiB."""
    body = bytearray()
    for chunk in response.iter_content(64 * 1024):
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

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere. requests would read a redirect's whole body even where it does not follow it."""


def new_session() -> requests.Session:
    """Return a session for token endpoints: deadline, no redirects, no retries, no compression."""
    session = _Session()
    session.headers["Accept-Encoding"] = "identity"
    session.headers["Accept"] = "application/json"
    for prefix in ("https://", "http://"):
        session.mount(prefix, DeadlineAdapter())
    return session
