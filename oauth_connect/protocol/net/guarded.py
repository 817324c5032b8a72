"""Connections only to public addresses, for URLs that the settings did not name.

A host is resolved once, and the session connects only to the checked addresses. So a second lookup with
another result (DNS rebinding) has no effect.
"""

from __future__ import annotations

import socket
from functools import lru_cache
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from oauth_connect.protocol.net.addresses import AddressGuard, AddressRefused
from oauth_connect.protocol.net.pool import SharedAdapter, shared_adapter
from oauth_connect.protocol.net.transport import (
    DeadlineAdapter,
    DeadlinedHTTPConnection,
    DeadlinedHTTPSConnection,
    ServerSession,
    new_session,
)

MAX_GUARDS = 20


def guarded_session(guard: AddressGuard) -> ServerSession:
    """Return a session of ``transport.new_session`` with the guard. Its requests may raise AddressRefused."""
    return new_session(adapter=GuardedAdapter(guard))


def resolved(host: str) -> list[str]:
    """Return the addresses of a host, each once. Raises socket.gaierror or UnicodeError."""
    found = socket.getaddrinfo(host.strip("[]"), None, allowed_gai_family(), socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class _Guarded:
    """A mixin for urllib3's connections that connects only to addresses that the guard permits."""

    guard: AddressGuard
    _dns_host: str

    def _new_conn(self) -> socket.socket:
        """Resolve once, check every address, and connect to one of the checked addresses.

        TLS and the Host header still use the host name.
        """
        name = self._dns_host
        failure: Exception | None = None
        for address in self._permitted_addresses():
            self._dns_host = address
            try:
                return super()._new_conn()  # type: ignore[misc, no-any-return]
            except (NewConnectionError, ConnectTimeoutError) as error:
                failure = error
            finally:
                self._dns_host = name
        raise failure or NewConnectionError(self, "no address")  # type: ignore[arg-type]

    def _permitted_addresses(self) -> list[str]:
        host = self._dns_host
        try:
            addresses = resolved(host)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(host, self, error) from error  # type: ignore[arg-type]
        self.guard.check_resolved(host, addresses)
        return addresses


class _GuardedAdapter(HTTPAdapter):
    """A mixin for adapters that refuses private addresses.

    Behind a proxy, the proxy resolves names. Then this adapter can check only the text of the URL.
    """

    connections: tuple[type, type]

    def __init__(self, guard: AddressGuard) -> None:
        self.guard = guard
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _guarded_pools(self.guard, *self.connections)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        self._check(request)
        return super().send(request, *args, **kwargs)

    def _check(self, request: requests.PreparedRequest) -> None:
        if problem := self.guard.url_problem(request.url or ""):
            raise AddressRefused(problem)


class GuardedAdapter(_GuardedAdapter, DeadlineAdapter):
    """A DeadlineAdapter with the guard, for authorization servers."""

    connections = (DeadlinedHTTPConnection, DeadlinedHTTPSConnection)

    def route(self, request: requests.PreparedRequest, environment: Any) -> Any:
        self._check(request)
        return super().route(request, environment)


class GuardedApiAdapter(_GuardedAdapter, SharedAdapter):
    """A SharedAdapter with the guard, for APIs. The sessions with the same guard share its connections."""

    connections = (HTTPConnection, HTTPSConnection)


@lru_cache(maxsize=MAX_GUARDS)
def _guarded_api_adapter(guard: AddressGuard) -> GuardedApiAdapter:
    return GuardedApiAdapter(guard)


def api_adapter(guard: AddressGuard | None) -> SharedAdapter:
    """Return the adapter of the process for sessions with this guard."""
    return shared_adapter if guard is None else _guarded_api_adapter(guard)


def _guarded_pools(guard: AddressGuard, http: type, https: type) -> dict[str, type[HTTPConnectionPool]]:
    guarded = {"guard": guard}
    plain = type("_GuardedHTTPConnection", (_Guarded, http), guarded)
    secure = type("_GuardedHTTPSConnection", (_Guarded, https), guarded)
    return {
        "http": type("_GuardedHTTPPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("_GuardedHTTPSPool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
