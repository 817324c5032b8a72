"""A decorator and a mixin for a site's own views that require a connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase

from oauth_connect.errors import AmbiguousConnection, ReauthorizationRequired
from oauth_connect.flows import connection_for
from oauth_connect.flows.paths import without_response
from oauth_connect.models.owner import owner_of
from oauth_connect.protocol.provider import scope_tuple

ViewFunction = Callable[..., Any]


def connection_required(
    provider: str, *, scopes: Sequence[str] = ()
) -> Callable[[ViewFunction], ViewFunction]:
    """Run the view only for users who have connected the provider with these scopes.

    Other users are redirected to connect it, and then back. This also happens if the connection ends while
    the view runs. A user with several connections passes, and the view selects one by ``account_id``.
    """
    scopes = scope_tuple(scopes)

    def decorate(view: ViewFunction) -> ViewFunction:
        gated = _async_gate if iscoroutinefunction(view) else _gate
        return gated(view, provider, scopes)

    return decorate


class ConnectionRequiredMixin:
    """``connection_required`` for class-based views.

    Set ``connection_provider``, and ``connection_scopes`` if scopes are required.
    """

    connection_provider: str = ""
    connection_scopes: Sequence[str] = ()

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        # The dispatch of an async view is not a coroutine function. It returns an awaitable.
        gated = _async_gate if getattr(self, "view_is_async", False) else _gate
        view = gated(super().dispatch, self.connection_provider, self.connection_scopes)  # type: ignore[misc]
        return view(request, *args, **kwargs)


def _gate(view: ViewFunction, provider: str, scopes: Sequence[str]) -> ViewFunction:
    @wraps(view)
    def gated(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        redirect = _redirect(request, provider, scopes)
        if redirect is not None:
            return redirect
        try:
            return view(request, *args, **kwargs)
        except ReauthorizationRequired as error:
            return _to_connect(request, error)

    return gated


def _async_gate(view: ViewFunction, provider: str, scopes: Sequence[str]) -> ViewFunction:
    @wraps(view)
    async def gated(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        redirect = await sync_to_async(_redirect)(request, provider, scopes)
        if redirect is not None:
            return redirect
        try:
            return await view(request, *args, **kwargs)
        except ReauthorizationRequired as error:
            return _to_connect(request, error)

    return gated


def _redirect(request: HttpRequest, provider: str, scopes: Sequence[str]) -> HttpResponseBase | None:
    if not request.user.is_authenticated:
        return redirect_to_login(_this_page(request))
    try:
        connection_for(owner_of(request), provider, scopes=scopes)
    except ReauthorizationRequired as error:
        return _to_connect(request, error)
    except AmbiguousConnection:
        pass
    return None


def _to_connect(request: HttpRequest, error: ReauthorizationRequired) -> HttpResponseBase:
    """Redirect to connect. The error has its own provider, account and scopes, not those of the view."""
    if not error.connect_url:
        raise error
    separator = "&" if "?" in error.connect_url else "?"
    back = urlencode({"next": _this_page(request)})
    return HttpResponseRedirect(f"{error.connect_url}{separator}{back}")


def _this_page(request: HttpRequest) -> str:
    """Return the path and query of a request, without a provider's response that went to the wrong page."""
    is_response = "state" in request.GET and ("code" in request.GET or "error" in request.GET)
    path = request.get_full_path()
    if not is_response:
        return path
    query = without_response(request.META.get("QUERY_STRING", ""))
    return f"{path.partition('?')[0]}{'?' if query else ''}{query}"
