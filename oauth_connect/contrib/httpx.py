"""httpx, and its successor httpx2, for a connection's calls (extra ``httpx``): docs/httpx.md.

``ConnectionAuth`` serves a client of one's own; ``client_for`` and ``aclient_for`` make one, as
``session_for`` makes a ``requests.Session``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from oauth_connect.conf import conf
from oauth_connect.flows import aconnection_for, connection_for
from oauth_connect.models import Connection
from oauth_connect.models.lifecycle import access
from oauth_connect.protocol.httpx import LIBRARIES, SENT, TokenAuth
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.session import TokenSource

if TYPE_CHECKING:
    from httpx import AsyncClient, Client
else:
    Client, AsyncClient = LIBRARIES[0].Client, LIBRARIES[0].AsyncClient

__all__ = ["ConnectionAuth", "TokenAuth", "aclient", "aclient_for", "client", "client_for"]


class ConnectionAuth(TokenAuth):
    """Puts a connection's token into calls: refreshed through the lease, sent to the API's hosts only.

    For ``Client(auth=...)`` and ``AsyncClient(auth=...)`` of httpx and httpx2. An async call costs neither a
    query nor a thread while the token is valid, and never blocks the event loop.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._source: access.ConnectionSource | None = None

    def source(self) -> TokenSource:
        if self._source is None:
            self._source = access.ConnectionSource(self.connection)
        return self._source

    async def asource(self) -> access.ConnectionSource:
        if self._source is None:
            self._source = await access.asource(self.connection)
        return self._source


def client_for(
    user_or_owner: Any,
    provider: str,
    account_id: str | None = None,
    scopes: Iterable[str] = (),
    **options: Any,
) -> Client:
    """Return a client for the owner's connection to a provider; errors as in ``flows.session_for``.

    ``options`` as for ``client``.
    """
    return client(connection_for(user_or_owner, provider, account_id, scopes), **options)


async def aclient_for(
    user_or_owner: Any,
    provider: str,
    account_id: str | None = None,
    scopes: Iterable[str] = (),
    **options: Any,
) -> AsyncClient:
    """``client_for`` for async code: ``async with await aclient_for(user, "github") as http``."""
    return await aclient(await aconnection_for(user_or_owner, provider, account_id, scopes), **options)


def client(connection: Connection, *, client_class: Any = Client, **options: Any) -> Client:
    """Return a client that carries the connection's token; relative URLs are joined to ``api_base_url``.

    ``client_class``: httpx's, where that is installed, otherwise httpx2's. Further options are those of
    the class; ``timeout`` is by default that of ``API_TIMEOUT``, in seconds.
    """
    auth = ConnectionAuth(connection)
    settings = _settings(auth.source().provider, _follow, options)
    return _traceless(client_class)(auth=auth, **settings)


async def aclient(connection: Connection, *, client_class: Any = AsyncClient, **options: Any) -> AsyncClient:
    """``client`` for async code."""
    auth = ConnectionAuth(connection)
    settings = _settings((await auth.asource()).provider, _afollow, options)
    return _atraceless(client_class)(auth=auth, **settings)


def _settings(provider: Provider, guard: Callable[[Any], Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a client: the caller's, before those of the provider."""
    hooks = dict(options.get("event_hooks") or {})
    return {
        "base_url": provider.api_base_url,
        "timeout": conf.api_timeout,
        **options,
        "headers": {**provider.api.headers, **dict(options.get("headers") or {})},
        "event_hooks": {**hooks, "request": [guard, *hooks.get("request", [])]},
    }


# --- redirects ----------------------------------------------------------------------------------


def _follow(request: Any) -> None:
    call = request.extensions.get(SENT)
    if call is not None:
        call.follow(request)


async def _afollow(request: Any) -> None:
    _follow(request)


# --- errors -------------------------------------------------------------------------------------


HTTP_ERRORS = tuple(library.HTTPError for library in LIBRARIES)


@contextmanager
def _cut_off() -> Iterator[None]:
    """Cut an error off from the frames below: they hold the token, and error pages print their locals."""
    try:
        yield
    except HTTP_ERRORS as error:
        raise error.with_traceback(None) from None


@cache
def _traceless(client_class: Any) -> type[Client]:
    class ApiClient(client_class):  # type: ignore[misc]
        def send(self, *args: Any, **options: Any) -> Any:
            with _cut_off():
                return super().send(*args, **options)

    return ApiClient


@cache
def _atraceless(client_class: Any) -> type[AsyncClient]:
    class AsyncApiClient(client_class):  # type: ignore[misc]
        async def send(self, *args: Any, **options: Any) -> Any:
            with _cut_off():
                return await super().send(*args, **options)

    return AsyncApiClient
