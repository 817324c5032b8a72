"""Adds the token to requests of httpx or of its successor httpx2 (extra ``httpx``). Needs no Django.

One auth object works with the ``Client`` and the ``AsyncClient`` of both libraries.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from oauth_connect.errors import ForbiddenDestination
from oauth_connect.protocol.background import background
from oauth_connect.protocol.bearer import Bearer
from oauth_connect.protocol.net import destination
from oauth_connect.protocol.net.destination import DEFAULT_PORTS, Origin
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.session import TokenSource
from oauth_connect.protocol.token import Token

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

IN_MEMORY = tuple(library.ByteStream for library in LIBRARIES)
# A body of known length up to this many bytes is read into memory first, so that it can be sent again.
MAX_BUFFERED = 1024 * 1024
SENT = "oauth_connect"


class AsyncTokenSource(Protocol):
    """Provides the token of async calls without blocking the event loop. See ``TokenSource``."""

    @property
    def provider(self) -> Provider: ...

    async def acurrent(self) -> Token:
        """Return a token that is valid now. Refresh it if needed."""

    async def arenewed(self, rejected: Token) -> Token | None:
        """Return a newer token than the one that the API refused, or None if there is none."""


class InBackground:
    """Calls a ``TokenSource`` in a thread. Async callers share a call in flight."""

    def __init__(self, source: TokenSource) -> None:
        self.source = source
        self.provider = source.provider

    async def acurrent(self) -> Token:
        return await self._once("current", self.source.current)

    async def arenewed(self, rejected: Token) -> Token | None:
        return await self._once(rejected.access_token, partial(self.source.renewed, rejected))

    async def _once(self, key: str, call: Callable[[], T]) -> T:
        return await background.once((id(self.source), key), call, provider=self.provider.slug)


class TokenAuth(_Auth):
    """Adds the token to a request. After a 401, refreshes once and retries once (RFC 6750 section 3.1).

    ``source`` is any ``TokenSource``. If it also has ``acurrent`` and ``arenewed``, async clients use them.
    Raises ForbiddenDestination before a request is sent to a host that may not receive the token.
    """

    def __init__(self, source: TokenSource) -> None:
        self._source: TokenSource | None = source

    def source(self) -> TokenSource:
        """Return the source of the token. May block."""
        assert self._source is not None  # noqa: S101  (only a subclass sets it later)
        return self._source

    async def asource(self) -> AsyncTokenSource:
        """Return the source of the token for async calls."""
        source: Any = self.source()
        return source if hasattr(source, "acurrent") else InBackground(source)

    def __reduce__(self) -> NoReturn:
        raise TypeError("An auth object holds secrets and cannot be pickled. Pass the connection's pk.")

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        source = self.source()
        call = Call(source.provider, request)
        if call.should_buffer and hasattr(request.stream, "__iter__"):
            request.read()
        token = source.current()
        response = yield call.with_token(token)
        if call.is_refused(response, token):
            newer = source.renewed(token)
            if newer is not None and call.can_be_repeated:
                yield call.with_token(newer)

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        source = await self.asource()
        call = Call(source.provider, request)
        if call.should_buffer and hasattr(request.stream, "__aiter__"):
            await request.aread()
        token = await source.acurrent()
        response = yield call.with_token(token)
        if call.is_refused(response, token):
            newer = await source.arenewed(token)
            if newer is not None and call.can_be_repeated:
                yield call.with_token(newer)


class Call:
    """One request to an API with its redirects.

    Raises ForbiddenDestination for a URL that may not receive the token.
    """

    def __init__(self, provider: Provider, request: Any) -> None:
        self.bearer = Bearer(provider)
        self.request = request
        self.origin = origin_of(request.url)
        self.bearer.check(self.origin)
        self.keeps_token = True
        self._value = ""

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
        same_origin = self.bearer.survives_redirect(self.origin, origin_of(request.url))
        self.keeps_token = self.keeps_token and same_origin
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
            plain: Any = getattr(request.headers, "plain", request.headers)
            request.headers = _with_hidden_header(plain.__class__)(plain, name, self._value)

    def __repr__(self) -> str:
        return f"<Call to {self.bearer.provider.slug}>"


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
