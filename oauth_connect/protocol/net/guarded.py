"""A session for what a discovered document names: only public addresses are connected to.

A host is resolved once, and only the addresses that were looked at are connected to, so that a
second look-up with another answer (DNS rebinding) changes nothing.
"""

from __future__ import annotations

import socket
from typing import Any

import requests
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from oauth_connect.protocol.net.addresses import AddressGuard, AddressRefused, refusal
from oauth_connect.protocol.net.transport import (
    DeadlineAdapter,
    Deadlined,
    ServerSession,
    new_session,
)


def guarded_session(guard: AddressGuard) -> ServerSession:
    """Return a session as ``transport.new_session`` does, behind the guard, and without ``.netrc``.

    It may raise AddressRefused.
    """
    session = new_session()
    session.auth = _anonymous
    for prefix in ("https://", "http://"):
        session.mount(prefix, GuardedAdapter(guard))
    return session


def _anonymous(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """No credentials; that there is an ``auth`` at all keeps requests away from ``.netrc``."""
    return request


class _Guarded(Deadlined):
    """Mixed into urllib3's connections: only addresses that the guard permits."""

    guard: AddressGuard
    _dns_host: str

    def _new_conn(self) -> socket.socket:
        """Resolve once, look at every address, and connect to one of these very addresses.

        The host stays the name that TLS and the Host header are about.
        """
        named = self._dns_host
        failure: Exception | None = None
        for address in self._permitted_addresses():
            self._dns_host = address
            try:
                return super()._new_conn()  # type: ignore[misc, no-any-return]
            except (NewConnectionError, ConnectTimeoutError) as error:
                failure = error
            finally:
                self._dns_host = named
        raise failure or NewConnectionError(self, "no address")  # type: ignore[arg-type]

    def _permitted_addresses(self) -> list[str]:
        host = self._dns_host
        try:
            found = socket.getaddrinfo(host.strip("[]"), None, allowed_gai_family(), socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(host, self, error) from error  # type: ignore[arg-type]
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not all(self.guard.permits(host, address) for address in addresses):
            raise AddressRefused(refusal(host))
        return addresses


class GuardedAdapter(DeadlineAdapter):
    """A DeadlineAdapter that refuses private addresses.

    Behind a proxy it is the proxy that resolves, and so decides; here a URL is then only read.
    """

    def __init__(self, guard: AddressGuard) -> None:
        self.guard = guard
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _guarded_pools(self.guard)

    def route(self, request: requests.PreparedRequest, environment: Any) -> Any:
        self._check(request)
        return super().route(request, environment)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        self._check(request)
        return super().send(request, *args, **kwargs)

    def _check(self, request: requests.PreparedRequest) -> None:
        if problem := self.guard.url_problem(request.url or ""):
            raise AddressRefused(problem)


def _guarded_pools(guard: AddressGuard) -> dict[str, type[HTTPConnectionPool]]:
    guarded = {"guard": guard}
    plain = type("_GuardedHTTPConnection", (_Guarded, HTTPConnection), guarded)
    secure = type("_GuardedHTTPSConnection", (_Guarded, HTTPSConnection), guarded)
    return {
        "http": type("_GuardedHTTPPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("_GuardedHTTPSPool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
