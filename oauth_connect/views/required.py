"""A decorator and a mixin for a site's own views that require a connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import add_never_cache_headers

from oauth_connect.errors import AmbiguousConnection, CallError, ReauthorizationRequired
from oauth_connect.flows import connection_for
from oauth_connect.flows.choice import active_accounts
from oauth_connect.models.owner import owner_of
from oauth_connect.protocol.provider import scope_tuple
from oauth_connect.views.call_errors import answer_to, roll_back, this_page
from oauth_connect.views.json_answers import not_authenticated, wants_json

ViewFunction = Callable[..., Any]
V = TypeVar("V", bound=ViewFunction)


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a view requires."""

    provider: str
    scopes: Sequence[str]
    several: bool


def connection_required(
    provider: str, *, scopes: Sequence[str] = (), several: bool = False
) -> Callable[[V], V]:
    """Run the view only for users who have connected the provider with these scopes.

    Other users are redirected to connect it, and then back. This also happens if the connection ends while
    the view runs. A user with several accounts is asked once which one to use. ``several``: this user passes
    without being asked, because the view selects an account by ``account_id``. If the provider is down or the
    settings are wrong while the view runs, the response is a page or JSON.
    """
    if callable(provider):
        raise TypeError('connection_required needs a provider\'s name: @connection_required("NAME").')
    rule = _Rule(provider, scope_tuple(scopes), several)

    def decorate(view: V) -> V:
        gated = _async_gate if iscoroutinefunction(view) else _gate
        return gated(view, rule)

    return decorate


class ConnectionRequiredMixin:
    """``connection_required`` for class-based views.

    Set ``connection_provider``, ``connection_scopes`` if scopes are required, and ``connection_several`` if
    the view selects one of several accounts.
    """

    connection_provider: str = ""
    connection_scopes: Sequence[str] = ()
    connection_several: bool = False

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        # The dispatch of an async view is not a coroutine function. It returns an awaitable.
        gated = _async_gate if getattr(self, "view_is_async", False) else _gate
        rule = _Rule(self.connection_provider, self.connection_scopes, self.connection_several)
        view = gated(super().dispatch, rule)  # type: ignore[misc]
        return view(request, *args, **kwargs)


def _gate(view: V, rule: _Rule) -> V:
    @wraps(view)
    def gated(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        answer = _closed(request, rule)
        if answer is not None:
            return answer
        try:
            return view(request, *args, **kwargs)
        except (CallError, AmbiguousConnection) as error:
            answer = answer_to(request, error, rule.provider)
            if answer is None:
                raise
            roll_back(request)
            return answer

    return gated  # type: ignore[return-value]  # the same call, in more words


def _async_gate(view: V, rule: _Rule) -> V:
    @wraps(view)
    async def gated(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        answer = await sync_to_async(_closed)(request, rule)
        if answer is not None:
            return answer
        try:
            return await view(request, *args, **kwargs)
        except (CallError, AmbiguousConnection) as error:
            # A page may query the database. Django refuses ATOMIC_REQUESTS for async views.
            answer = await sync_to_async(answer_to)(request, error, rule.provider)
            if answer is None:
                raise
            return answer

    return gated  # type: ignore[return-value]  # the same call, in more words


def _closed(request: HttpRequest, rule: _Rule) -> HttpResponseBase | None:
    """Return the answer to a visitor for whom the view does not run, or None."""
    if not request.user.is_authenticated:
        return _to_login(request)
    owner = owner_of(request)
    account_id = None
    if rule.several and (active := active_accounts(owner, rule.provider)):
        if len(active) > 1:
            return None
        account_id = active[0].account_id  # also if another one is chosen, which must be connected again
    try:
        connection_for(owner, rule.provider, account_id, rule.scopes)
    except (ReauthorizationRequired, AmbiguousConnection) as error:
        answer = answer_to(request, error, rule.provider)
        if answer is None:
            raise
        return answer
    return None


def _to_login(request: HttpRequest) -> HttpResponseBase:
    if not wants_json(request):
        return redirect_to_login(this_page(request))
    response = not_authenticated()
    add_never_cache_headers(response)
    return response
