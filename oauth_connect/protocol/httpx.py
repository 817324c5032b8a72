"""The token in calls made with httpx, or with its successor httpx2 (extra ``httpx``); needs no Django.

One auth object serves the ``Client`` and the ``AsyncClient`` of both.
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
        """What a client of either library takes for ``auth``."""
else:
    _Auth = type("_Auth", tuple(library.Auth for library in LIBRARIES), {})

IN_MEMORY = tuple(library.ByteStream for library in LIBRARIES)
# A body of known length up to this many bytes is read before it is sent, so that it can be sent again.
HELD = 1024 * 1024
SENT = "oauth_connect"


class AsyncTokenSource(Protocol):
    """Where async calls get their token from, without blocking the event loop; as ``TokenSource``."""

    @property
    def provider(self) -> Provider: ...

    async def acurrent(self) -> Token:
        """Return a token that is valid now, refreshed where needed."""

    async def arenewed(self, rejected: Token) -> Token | None:
        """Return another token than the one the API refused; None when there is none to be had."""


class InBackground:
    """A ``TokenSource`` for async calls: asked in a thread, once for all who ask at the same time."""

    def __init__(self, source: TokenSource) -> None:
        self.source = source
        self.provider = source.provider

    async def acurrent(self) -> Token:
        return await self._once("current", self.source.current)

    async def arenewed(self, rejected: Token) -> Token | None:
        return await self._once(rejected.access_token, partial(self.source.renewed, rejected))

    async def _once(self, what: str, call: Callable[[], T]) -> T:
        return await background.once((id(self.source), what), call, provider=self.provider.slug)


class TokenAuth(_Auth):
    """Places the token, and answers one 401 with one refresh and one retry (RFC 6750 section 3.1).

    ``source``: any ``TokenSource``; one that also has ``acurrent`` and ``arenewed`` is asked by these
    where the client is async. Raises ForbiddenDestination before anything is sent elsewhere.
    """

    def __init__(self, source: TokenSource) -> None:
        self._source: TokenSource | None = source

    def source(self) -> TokenSource:
        """Return where the token comes from; may block."""
        assert self._source is not None  # noqa: S101  (only a subclass finds it later)
        return self._source

    async def asource(self) -> AsyncTokenSource:
        """Return where the token comes from, for async calls."""
        source: Any = self.source()
        return source if hasattr(source, "acurrent") else InBackground(source)

    def __reduce__(self) -> NoReturn:
        raise TypeError("An auth object is not pickled: it leads to secrets. Pass the connection's pk.")

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        source = self.source()
        call = Call(source.provider, request)
        if call.is_worth_holding and hasattr(request.stream, "__iter__"):
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
        if call.is_worth_holding and hasattr(request.stream, "__aiter__"):
            await request.aread()
        token = await source.acurrent()
        response = yield call.with_token(token)
        if call.is_refused(response, token):
            newer = await source.arenewed(token)
            if newer is not None and call.can_be_repeated:
                yield call.with_token(newer)


class Call:
    """One request to an API, on its way through its redirects.

    Raises ForbiddenDestination for a URL that no token may be sent to.
    """

    def __init__(self, provider: Provider, request: Any) -> None:
        self.bearer = Bearer(provider)
        self.request = request
        self.origin = origin_of(request.url)
        self.bearer.check(self.origin)
        self.goes_along = True
        self._value = ""

    @property
    def is_worth_holding(self) -> bool:
        length = self.request.headers.get("Content-Length", "")
        known = length.isascii() and length.isdigit()
        return not self.can_be_repeated and known and int(length) <= HELD

    @property
    def can_be_repeated(self) -> bool:
        """Whether the body is in memory; what is read as it is sent, a file, a generator, is gone by then."""
        return isinstance(self.request.stream, IN_MEMORY)

    def with_token(self, token: Token) -> Any:
        """Return the request with this token in its header."""
        self._value = self.bearer.value(token)
        self.request.extensions = {**self.request.extensions, SENT: self}
        self._place(self.request)
        return self.request

    def is_refused(self, response: Any, token: Token) -> bool:
        """Tell whether the answer refuses the token; what is sent again is the request it answers."""
        self.request = response.request
        names = {name.lower(): value for name, value in self.request.headers.raw}
        sent = names.get(self.bearer.header.lower().encode(), b"").decode()
        return self.bearer.is_refused(token, status=response.status_code, sent=sent)

    def follow(self, request: Any) -> None:
        """Let a redirect's request keep the token, or not (RFC 6750 section 5.3); it does not come back.

        Raises ForbiddenDestination for one down to plain http.
        """
        self.goes_along = self.bearer.goes_along(self.origin, origin_of(request.url)) and self.goes_along
        if self.goes_along:
            self._place(request)
        else:
            for name in (self.bearer.header, "Authorization", "Proxy-Authorization"):
                request.headers.pop(name, None)

    def _place(self, request: Any) -> None:
        name = self.bearer.header
        if name.lower() == "authorization":
            request.headers[name] = self._value
        else:
            plain: Any = getattr(request.headers, "plain", request.headers)
            request.headers = _sealed(plain.__class__)(plain, name, self._value)

    def __repr__(self) -> str:
        return f"<Call to {self.bearer.provider.slug}>"


def origin_of(url: Any) -> Origin:
    """Return the origin of a library's URL. Raises ForbiddenDestination as ``destination.origin_of``.

    And where that one's parser and the library's, which opens the connection, see different hosts.
    """
    origin = destination.origin_of(str(url))
    port = DEFAULT_PORTS.get(url.scheme) if url.port is None else url.port
    if (url.scheme, url.raw_host.decode(), port) != (origin.scheme, origin.host.strip("[]"), origin.port):
        raise ForbiddenDestination("This URL can be read in two ways; nothing was sent.")
    return origin


@cache
def _sealed(headers: Any) -> Any:
    """Return a class of headers that hold one more for the wire alone.

    A redirect's request is made from a copy of the headers. The libraries take ``Authorization`` out of it,
    and no other header: this one is not in it. Nor is it in a ``repr``.
    """

    class Sealed(headers):  # type: ignore[misc]
        def __init__(self, plain: Any, name: str, value: str) -> None:
            self.plain = plain
            self._for_the_wire = (name.encode(), value.encode())
            super().__init__(plain)
            self.pop(name, None)

        @property
        def raw(self) -> list[tuple[bytes, bytes]]:
            return [*super().raw, self._for_the_wire]

    return Sealed
