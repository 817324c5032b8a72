"""Adds the token to requests of httpx or of its successor httpx2 (extra ``httpx``). Needs no Django.

One auth object works with the ``Client`` and the ``AsyncClient`` of both libraries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self, TypeVar

from oauth_connect.errors import ForbiddenDestination
from oauth_connect.protocol.background import background
from oauth_connect.protocol.bearer import Bearer
from oauth_connect.protocol.net import destination
from oauth_connect.protocol.net.addresses import AddressGuard, AddressRefused, is_literal
from oauth_connect.protocol.net.bounded import Bounded
from oauth_connect.protocol.net.destination import DEFAULT_PORTS, Origin
from oauth_connect.protocol.net.guarded import resolved
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.session import TokenSource
from oauth_connect.protocol.token import Token
from oauth_connect.tracebacks import copy_of, methods_without_locals

__all__ = ["AsyncTokenSource", "TokenAuth"]

T = TypeVar("T")

LIBRARIES = tuple(import_module(name) for name in ("httpx", "httpx2") if find_spec(name))
if not LIBRARIES:
    raise ImportError("This needs httpx: pip install 'django-oauth-connect[httpx]'; or pip install httpx2.")

if TYPE_CHECKING:
    import httpx
    import httpx2

    class _Auth(httpx.Auth, httpx2.Auth):  # type: ignore[misc]
        """The type that clients of both libraries accept as ``auth``."""
else:
    _Auth = type("_Auth", tuple(library.Auth for library in LIBRARIES), {})

CONNECT_ERRORS = tuple(
    error for library in LIBRARIES for error in (library.ConnectError, library.ConnectTimeout)
)
IN_MEMORY = tuple(library.ByteStream for library in LIBRARIES)
# A body of known length up to this many bytes is read into memory first, so that it can be sent again.
MAX_BUFFERED = 1024 * 1024
MAX_HOSTS = 20  # with connections, for each guarded client
SENT = "oauth_connect"


class AsyncTokenSource(Protocol):
    """Provides the token of async calls without blocking the event loop. See ``TokenSource``."""

    @property
    def provider(self) -> Provider: ...

    async def acurrent(self) -> Token:
        """Return a token that is valid now. Refresh it if needed."""

    async def arenewed(self, rejected: Token) -> Token | None:
        """Return a newer token than the one that the API refused, or None if there is none."""


@methods_without_locals
class InBackground:
    """Calls a ``TokenSource`` in a thread. Async callers share a call in flight."""

    def __init__(self, source: TokenSource) -> None:
        self.source = source

    @property
    def provider(self) -> Provider:
        return self.source.provider

    async def acurrent(self) -> Token:
        return await self._once("current", self.source.current)

    async def arenewed(self, rejected: Token) -> Token | None:
        return await self._once(rejected.access_token, partial(self.source.renewed, rejected))

    async def _once(self, key: str, call: Callable[[], T]) -> T:
        try:
            return await background.once((id(self.source), key), call, provider=self.provider.slug)
        except Exception as error:
            failure = copy_of(error)
        raise failure


@methods_without_locals
class TokenAuth(_Auth):
    """Adds the token to a request. After a 401, refreshes once and retries once (RFC 6750 section 3.1).

    ``source`` is any ``TokenSource``. If it also has ``acurrent`` and ``arenewed``, async clients use them.
    Raises ForbiddenDestination before a request is sent to a host that may not receive the token.
    """

    _first: Provider | None = None  # with which the client began

    def __init__(self, source: TokenSource) -> None:
        self._source: TokenSource | None = source
        self._left: set[str] = set()

    def source(self) -> TokenSource:
        """Return the source of the token. May block."""
        assert self._source is not None  # noqa: S101  (only a subclass sets it later)
        return self._source

    async def asource(self) -> AsyncTokenSource:
        """Return the source of the token for async calls."""
        source: Any = self.source()
        return source if hasattr(source, "acurrent") else InBackground(source)

    def _call(self, provider: Provider, request: Any) -> Call:
        self._first = self._first or provider
        return Call(provider, request, self._left, self._first)

    def __reduce__(self) -> NoReturn:
        raise TypeError("An auth object holds secrets and cannot be pickled. Pass the connection's pk.")

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        source = self.source()
        call = self._call(source.provider, request)
        if call.should_buffer and hasattr(request.stream, "__iter__"):
            request.read()
        call.check_addresses()
        token = source.current()
        call.follow_instance(source.provider)
        response = yield call.with_token(token)
        if call.is_refused(response, token):
            newer = source.renewed(token)
            call.follow_instance(source.provider)
            if newer is not None and call.can_be_repeated:
                yield call.with_token(newer)

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        source = await self.asource()
        call = self._call(source.provider, request)
        if call.should_buffer and hasattr(request.stream, "__aiter__"):
            await request.aread()
        if call.is_guarded:
            await asyncio.get_running_loop().run_in_executor(None, call.check_addresses)
        token = await source.acurrent()
        call.follow_instance(source.provider)
        response = yield call.with_token(token)
        if call.is_refused(response, token):
            newer = await source.arenewed(token)
            call.follow_instance(source.provider)
            if newer is not None and call.can_be_repeated:
                yield call.with_token(newer)


@methods_without_locals
class Call:
    """One request to an API with its redirects.

    Raises ForbiddenDestination for a URL that may not receive the token.
    """

    def __init__(self, provider: Provider, request: Any, left: set[str], first: Provider) -> None:
        self.bearer = Bearer(provider)
        self.request = request
        self.keeps_token = True
        self._left = left
        self._first = first
        self._value = ""
        self._relocate()

    def follow_instance(self, provider: Provider) -> None:
        """Continue at the API's present host. ``left`` lists the base URLs of the earlier ones."""
        if provider is not self.bearer.provider:
            self._left.add(self.bearer.provider.api_base_url)
            self.bearer = Bearer(provider)
            self._relocate()

    def _relocate(self) -> None:
        url = str(self.request.url)
        headers = _plain(self.request.headers)
        self.bearer.follow_headers(headers, self._first)
        moved = self.bearer.relocated(url, self._left)
        if moved != url:
            self.request.url = type(self.request.url)(moved)
            headers["Host"] = self.request.url.netloc.decode("ascii")
            headers.pop("Cookie", None)  # for the host that the connection has left
        self.bearer.check_url(moved)
        self.origin = origin_of(self.request.url)
        self.bearer.check(self.origin)

    @property
    def is_guarded(self) -> bool:
        return self.bearer.guard is not None

    def check_addresses(self) -> None:
        """Raise ForbiddenDestination if the host resolves to an address that the provider's guard refuses."""
        if self.bearer.guard is not None:
            permitted_addresses(self.origin.host, self.bearer.guard)

    @property
    def should_buffer(self) -> bool:
        length = self.request.headers.get("Content-Length", "")
        is_known = length.isascii() and length.isdigit()
        return not self.can_be_repeated and is_known and int(length) <= MAX_BUFFERED

    @property
    def can_be_repeated(self) -> bool:
        """Return whether the body is in memory. A file or a generator is consumed by the first request."""
        return isinstance(self.request.stream, IN_MEMORY)

    def with_token(self, token: Token) -> Any:
        """Return the request with this token in its header."""
        self._value = self.bearer.value(token)
        self.request.extensions = {**self.request.extensions, SENT: self}
        self._add_header(self.request)
        return self.request

    def is_refused(self, response: Any, token: Token) -> bool:
        """Return whether the response refuses the token. A retry repeats the request of this response."""
        self.request = response.request
        names = {name.lower(): value for name, value in self.request.headers.raw}
        sent = names.get(self.bearer.header.lower().encode(), b"").decode()
        return self.bearer.is_refused(token, status=response.status_code, sent=sent)

    def follow(self, request: Any) -> None:
        """Keep or remove the token in a redirect's request (RFC 6750 section 5.3).

        Once removed, the token is not added to later redirects. Raises ForbiddenDestination for a redirect to
        plain http.
        """
        survives = self.bearer.survives_redirect(self.origin, origin_of(request.url))
        self.keeps_token = self.keeps_token and survives
        if self.keeps_token:
            self._add_header(request)
        else:
            for name in self.bearer.private_headers:
                request.headers.pop(name, None)

    def _add_header(self, request: Any) -> None:
        name = self.bearer.header
        if name.lower() == "authorization":
            request.headers[name] = self._value
        else:
            plain = _plain(request.headers)
            request.headers = _with_hidden_header(plain.__class__)(plain, name, self._value)

    def __repr__(self) -> str:
        return f"<Call to {self.bearer.provider.slug}>"


def _plain(headers: Any) -> Any:
    """Return the headers without the hidden one. A request that is sent again is made from these."""
    return getattr(headers, "plain", headers)


def permitted_addresses(host: str, guard: AddressGuard) -> list[str]:
    """Return the addresses of a host; an empty list if it cannot be resolved. Raises ForbiddenDestination."""
    try:
        addresses = resolved(host)
        guard.check_resolved(host, addresses)
    except AddressRefused as refused:
        problem = f"{refused} Nothing was sent to it."
    except (OSError, UnicodeError):
        return []  # the library finds the same, and raises its own error
    else:
        return addresses
    raise ForbiddenDestination(problem)


class _Guarded:
    """Sends requests of a client, also redirected ones, only to addresses that the guard permits.

    A host is resolved once, and the request goes to one of the checked addresses. TLS and the Host header
    still use the host's name.

    ``make`` returns a transport of the library. Each host has its own: a transport keeps connections by
    address, and one that has proved to be a host would serve another host at its address.
    """

    def __init__(self, make: Callable[[], Any], guard: AddressGuard) -> None:
        self._make = make
        self._guard = guard
        self._transports: Bounded[Any] = Bounded(MAX_HOSTS)

    def _transport(self, request: Any) -> Any:
        return self._transports.get_or_make(_host(request), self._make)


class GuardedTransport(_Guarded):
    """A transport with a guard for sync clients."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def close(self) -> None:
        for transport in list(self._transports.values()):
            transport.close()

    def handle_request(self, request: Any) -> Any:
        addresses = permitted_addresses(_host(request), self._guard)
        transport = self._transport(request)
        for address in addresses[:-1]:
            with suppress(*CONNECT_ERRORS):
                return transport.handle_request(_pinned(request, address))
        return transport.handle_request(_pinned(request, addresses[-1]) if addresses else request)


class AsyncGuardedTransport(_Guarded):
    """A transport with a guard for async clients."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        for transport in list(self._transports.values()):
            await transport.aclose()

    async def handle_async_request(self, request: Any) -> Any:
        loop, find = asyncio.get_running_loop(), partial(permitted_addresses, _host(request), self._guard)
        addresses = await loop.run_in_executor(None, find)
        transport = self._transport(request)
        for address in addresses[:-1]:
            with suppress(*CONNECT_ERRORS):
                return await transport.handle_async_request(_pinned(request, address))
        pinned = _pinned(request, addresses[-1]) if addresses else request
        return await transport.handle_async_request(pinned)


def _host(request: Any) -> str:
    return str(request.url.raw_host.decode())


def _pinned(request: Any, address: str) -> Any:
    """Return the request for one address of its host. The connection's certificate must be the host's."""
    host = _host(request)
    if is_literal(host):
        return request
    pinned = object.__new__(type(request))
    pinned.__dict__.update(request.__dict__)  # copy() would drop the body's stream
    pinned.url = request.url.copy_with(host=address)
    pinned.extensions = {**request.extensions, "sni_hostname": host}
    return pinned


def origin_of(url: Any) -> Origin:
    """Return the origin of a library's URL. Raises the errors of ``destination.origin_of``.

    Also raises ForbiddenDestination if the library's parser sees another host, because the library opens the
    connection.
    """
    origin = destination.origin_of(str(url))
    port = DEFAULT_PORTS.get(url.scheme) if url.port is None else url.port
    if (url.scheme, url.raw_host.decode(), port) != (origin.scheme, origin.host.strip("[]"), origin.port):
        raise ForbiddenDestination("Two parsers read this URL differently. Nothing was sent.")
    return origin


@cache
def _with_hidden_header(headers: Any) -> Any:
    """Return a subclass of headers with one header that only ``raw``, the sent form, contains.

    For a redirect, the libraries copy the headers and remove only ``Authorization``. The hidden header is
    not part of the copy. A ``repr`` does not show it either.
    """

    class WithHiddenHeader(headers):  # type: ignore[misc]
        def __init__(self, plain: Any, name: str, value: str) -> None:
            self.plain = plain
            self._hidden = (name.encode(), value.encode())
            super().__init__(plain)
            self.pop(name, None)

        @property
        def raw(self) -> list[tuple[bytes, bytes]]:
            return [*super().raw, self._hidden]

    return WithHiddenHeader
