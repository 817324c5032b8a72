"""Calls an API with httpx, or its successor httpx2 (extra ``httpx``, docs/httpx.md).

``ConnectionAuth`` adds a connection's token to the caller's own client. ``client_for`` and ``aclient_for``
create a client, as ``session_for`` creates a ``requests.Session``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from oauth_connect.conf import conf
from oauth_connect.flows import aconnection_for, connection_for
from oauth_connect.models import Connection
from oauth_connect.models.lifecycle import access
from oauth_connect.protocol.httpx import (
    LIBRARIES,
    SENT,
    AsyncGuardedTransport,
    GuardedTransport,
    TokenAuth,
)
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.session import TokenSource
from oauth_connect.protocol.templates import without_missing
from oauth_connect.tracebacks import inherited_without_locals, methods_without_locals, without_locals

if TYPE_CHECKING:
    from httpx import AsyncClient, Client
    from typing_extensions import TypeVar  # a default needs Python 3.13

    C = TypeVar("C", default=Client)
    A = TypeVar("A", default=AsyncClient)
else:
    Client, AsyncClient = LIBRARIES[0].Client, LIBRARIES[0].AsyncClient

__all__ = ["ConnectionAuth", "TokenAuth", "aclient", "aclient_for", "client", "client_for"]


TLS_OPTIONS = ("verify", "cert", "trust_env")
TRANSPORT_OPTIONS = ("trust_env", "http1", "http2", "limits")


@methods_without_locals
class ConnectionAuth(TokenAuth):
    """Adds a connection's token to calls. Refreshes it under the lease, and sends it only to the API's hosts.

    For ``Client(auth=...)`` and ``AsyncClient(auth=...)`` of httpx and httpx2. While the token is valid, an
    async call costs neither a query nor a thread. It never blocks the event loop.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._source: access.ConnectionSource | None = None
        self._left: set[str] = set()

    def source(self) -> TokenSource:
        if self._source is None:
            self._source = access.ConnectionSource(self.connection)
        return self._source

    async def asource(self) -> access.ConnectionSource:
        if self._source is None:
            self._source = await access.asource(self.connection)
        return self._source


@without_locals
def client_for(
    user_or_owner: Any,
    provider: str,
    account_id: str | None = None,
    scopes: Iterable[str] = (),
    *,
    client_class: type[C] = Client,  # type: ignore[assignment]
    **options: Any,
) -> C:
    """Return a client for the owner's connection to a provider; errors as in ``flows.session_for``.

    ``client_class`` and ``options``: as for ``client``.
    """
    connection = connection_for(user_or_owner, provider, account_id, scopes)
    return client(connection, client_class=client_class, **options)


@without_locals
async def aclient_for(
    user_or_owner: Any,
    provider: str,
    account_id: str | None = None,
    scopes: Iterable[str] = (),
    *,
    client_class: type[A] = AsyncClient,  # type: ignore[assignment]
    **options: Any,
) -> A:
    """``client_for`` for async code: ``async with await aclient_for(user, "github") as http``."""
    connection = await aconnection_for(user_or_owner, provider, account_id, scopes)
    return await aclient(connection, client_class=client_class, **options)


@without_locals
def client(
    connection: Connection,
    *,
    client_class: type[C] = Client,  # type: ignore[assignment]
    **options: Any,
) -> C:
    """Return a client that sends the connection's token. Relative URLs are joined to ``api_base_url``.

    ``client_class``: by default httpx's if that is installed, otherwise httpx2's. ``options``: those of the
    class; the default of ``timeout`` is ``API_TIMEOUT``, in seconds.
    """
    auth = ConnectionAuth(connection)
    provider = auth.source().provider
    settings = _settings(provider, _follow, options)
    if provider.api_guard is not None and "transport" not in settings:
        library = _library(client_class)
        make = partial(library.HTTPTransport, **_transport_options(library, options))
        settings["transport"] = GuardedTransport(make, provider.api_guard)
    kind: Callable[..., C] = _traceless(client_class)  # type: ignore[arg-type]
    return kind(auth=auth, **settings)


@without_locals
async def aclient(
    connection: Connection,
    *,
    client_class: type[A] = AsyncClient,  # type: ignore[assignment]
    **options: Any,
) -> A:
    """``client`` for async code."""
    auth = ConnectionAuth(connection)
    provider = (await auth.asource()).provider
    settings = _settings(provider, _afollow, options)
    if provider.api_guard is not None and "transport" not in settings:
        library = _library(client_class)
        make = partial(library.AsyncHTTPTransport, **_transport_options(library, options))
        settings["transport"] = AsyncGuardedTransport(make, provider.api_guard)
    kind: Callable[..., A] = _atraceless(client_class)  # type: ignore[arg-type]
    return kind(auth=auth, **settings)


def _settings(provider: Provider, guard: Callable[[Any], Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a client. The caller's options override those of the provider."""
    hooks = dict(options.get("event_hooks") or {})
    return {
        "base_url": provider.api_base_url,
        "timeout": conf.api_timeout,
        **options,
        "headers": {**without_missing(provider.api.headers), **dict(options.get("headers") or {})},
        "event_hooks": {**hooks, "request": [guard, *hooks.get("request", [])]},
    }


def _library(client_class: Any) -> Any:
    """Return the library that a client's class comes from."""
    return next(one for one in LIBRARIES if issubclass(client_class, one.Client | one.AsyncClient))


def _transport_options(library: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options for the transports of one client. The CA bundle is loaded once for all of them."""
    tls = {name: options[name] for name in TLS_OPTIONS if name in options}
    others = {name: options[name] for name in TRANSPORT_OPTIONS if name in options}
    return {**others, "verify": library.create_ssl_context(**tls)}


# --- redirects ----------------------------------------------------------------------------------


def _follow(request: Any) -> None:
    call = request.extensions.get(SENT)
    if call is not None:
        call.follow(request)


async def _afollow(request: Any) -> None:
    _follow(request)


# --- errors -------------------------------------------------------------------------------------


HTTP_ERRORS = tuple(library.HTTPError for library in LIBRARIES)
METHODS = ("request", "get", "options", "head", "post", "put", "patch", "delete")
LOCAL_ERRORS = tuple(library.LocalProtocolError for library in LIBRARIES)


@contextmanager
def _without_traceback() -> Iterator[None]:
    """Remove the traceback of an error: its frames hold the token, and error pages print their locals."""
    try:
        yield
    except HTTP_ERRORS as error:
        if isinstance(error, LOCAL_ERRORS):  # the message quotes a header that cannot be sent
            error.args = ("The library refuses to send this request. Look for a line break in a header.",)
        raise error.with_traceback(None) from None


@cache
def _traceless(client_class: Any) -> Any:
    class ApiClient(client_class):  # type: ignore[misc]
        @without_locals
        def send(self, *args: Any, **options: Any) -> Any:
            with _without_traceback():
                return super().send(*args, **options)

    return inherited_without_locals(ApiClient, *METHODS)


@cache
def _atraceless(client_class: Any) -> Any:
    class AsyncApiClient(client_class):  # type: ignore[misc]
        @without_locals
        async def send(self, *args: Any, **options: Any) -> Any:
            with _without_traceback():
                return await super().send(*args, **options)

    return inherited_without_locals(AsyncApiClient, *METHODS)
