"""The pages: list of connections, connect, callback, disconnect."""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt

from oauth_connect import flows
from oauth_connect.errors import CallbackRefused, CallError, RepeatedResponse
from oauth_connect.flows import flow_cookie
from oauth_connect.flows.authorize import Connected
from oauth_connect.flows.choice import replaceable
from oauth_connect.flows.disconnect import outlook, owned
from oauth_connect.flows.paths import CONNECT_PARAMETERS, local_path, mount_of, site_path
from oauth_connect.models import Connection
from oauth_connect.protocol.grants.callback import redirected
from oauth_connect.protocol.net.prefetch import is_prefetch
from oauth_connect.protocol.provider import Provider
from oauth_connect.tracebacks import without_locals
from oauth_connect.views.accounts import accounts_of
from oauth_connect.views.disconnecting import Disconnects
from oauth_connect.views.failures import (
    Failure,
    developers_box,
    failure_of,
    log_our_fault,
    noted_failure,
)
from oauth_connect.views.leave import leave
from oauth_connect.views.pages import (
    OwnerPage,
    PrivatePage,
    connections_path,
    not_prefetched,
    offered,
    offered_provider,
    read_all_but,
    say,
)
from oauth_connect.views.refusals import TEXTS
from oauth_connect.views.starting import StartsFlow
from oauth_connect.views.variables import VariablesForm

logger = logging.getLogger("oauth_connect.views")
# For these the page adds the provider's own word. Others say all that there is to say.
CODES_WITH_A_WORD = frozenset({"access_denied", "authorization_failed", "other_error"})


def asked_names(slug: str, owner: str) -> Iterable[str]:
    """Return the names of the variables that a user enters at this provider."""
    try:
        return offered_provider(slug, owner).asked_of("user")
    except Http404:
        return ()


def connected_text(connection: Connection, provider: str) -> str:
    """Return what the user reads after connecting."""
    return _("%(account)s is connected.") % {"account": connection.account_label or provider}


class ConnectionsView(OwnerPage):
    """GET: the owner's connections and the providers on offer."""

    http_method_names = ["get", "head", "options"]
    template_name = "oauth_connect/connections.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        accounts = accounts_of(self.owner)
        return self.render_to_response(
            self.get_context_data(connections=accounts.entries, providers=accounts.addable)
        )


class ConnectView(StartsFlow):
    """GET: a confirmation that changes nothing. POST: starts, and sends the browser to the provider.

    If the request accepts JSON first, POST returns ``{"authorization_url": ...}``.
    """

    http_method_names = ["get", "head", "post", "options"]
    template_name = "oauth_connect/connect.html"

    def get(self, request: HttpRequest, provider: str) -> HttpResponse:
        known, connection = self.known_provider(provider), self.connection_to_renew(provider)
        asked = flows.asked_variables(known, connection)
        form = VariablesForm(
            known, asked, initial={name: request.GET[name] for name in asked if name in request.GET}
        )
        return self.page(known, connection, form)

    def page(
        self, provider: Provider, connection: Connection | None, form: VariablesForm, status: int = 200
    ) -> HttpResponse:
        context = {
            "provider": provider,
            "connection": connection,
            "scopes": flows.asked_scopes(provider, self.extra_scopes(provider.slug), connection),
            "next": local_path(self.next_path()),
            "form": form,
            "replaced": replaceable(self.owner, provider.slug, connection) if provider.one_account else [],
        }
        if connection is not None:  # the page that followed the last connect may have shown no messages
            context["messages"] = read_all_but(self.request, connected_text(connection, provider.slug))
        return self.render_to_response(self.get_context_data(**context), status=status)

    def invalid(self, provider: Provider, connection: Connection | None, form: VariablesForm) -> HttpResponse:
        if self.wants_json():
            return JsonResponse({"errors": form.errors_by_path}, status=400)
        return self.page(provider, connection, form, status=400)

    def started(self, provider: Provider, url: str) -> HttpResponse:
        if self.wants_json():
            return JsonResponse({"authorization_url": url})
        return leave(self.request, url, self.get_context_data(provider=provider))

    def not_started(self, provider: str, failure: Failure, error: Exception) -> HttpResponse:
        box = developers_box(self.request, error, provider)
        return self.failed(provider, failure.code, failure.message, failure.status, developers=box)

    def interrupted(self, provider: str, code: str, status: int) -> HttpResponse:
        ended = self.path_to_retry(provider, without=("scopes",)) if code == "link_ended" else ""
        return self.failed(provider, code, TEXTS[code], status, connect_url=ended)

    def failed(
        self,
        provider: str,
        code: str,
        message: object,
        status: int,
        *,
        developers: object = None,
        connect_url: str = "",
    ) -> HttpResponse:
        if self.wants_json():
            return JsonResponse({"error": code}, status=status)
        context = self.get_context_data(
            provider=provider,
            code=code,
            message=message,
            developers=developers,
            connect_url=connect_url or self.path_to_retry(provider),
        )
        return self.response_class(
            request=self.request, template=["oauth_connect/refused.html"], context=context, status=status
        )

    def path_to_retry(self, provider: str, *, without: tuple[str, ...] = ()) -> str:
        """Return the path of this page with what was entered and asked for, without a response's values."""
        names = CONNECT_PARAMETERS | set(asked_names(provider, self.owner.key))
        given = {**self.request.POST.dict(), **self.request.GET.dict()}
        kept = {name: value for name, value in given.items() if value and name in names - set(without)}
        path = self.request.path
        return f"{path}?{urlencode(kept)}" if kept else path

    def value(self, name: str) -> str:
        """Return a parameter. Those that name a connection and scopes are in the URL only."""
        given = self.request.GET.get(name, "")
        return given or (self.request.POST.get(name, "") if name == "next" else "")

    def typed(self) -> Mapping[str, str]:
        return self.request.POST


@method_decorator(csrf_exempt, name="dispatch")
class CallbackView(PrivatePage):
    """GET: the provider's response. Success redirects; a failure shows a page with a link to start again.

    A login is not required, because the redirect to it would have the code in its URL. For the same reason
    the page never sends its URL as a referrer. "strict-origin" keeps the forms in a site's own
    base template working.
    """

    http_method_names = ["get", "post", "options"]  # HEAD would spend the state
    template_name = "oauth_connect/refused.html"
    referrer_policy = "strict-origin"

    @without_locals
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        reporters_forget_the_query()
        try:
            if is_prefetch(request.headers):
                return self.make_private(not_prefetched())
            response = super().dispatch(request, *args, **kwargs)
            flow_cookie.remove_from(response, request)
            return response
        finally:  # a status of 5xx is mailed too, and the page is rendered after this method
            forget_parameters(request)

    def get(self, request: HttpRequest, provider: str, record: str = "") -> HttpResponse:
        try:
            connected = flows.complete(request, provider, record)
        except RepeatedResponse as repeated:
            return self.repeated(provider, repeated)
        except (CallbackRefused, CallError) as error:
            failure = failure_of(error)
            log_refusal(provider, failure)
            box = developers_box(request, error, provider)
            return self.refused(provider, failure, developers=box, connect_url=error.connect_url)
        say(request, connected_text(connected.connection, provider))
        if connected.is_undecided and (path := self.site_page(connected)):
            return redirect(path)
        return redirect(connected.next or connections_path(request))

    def site_page(self, connected: Connected) -> str:
        mount = mount_of(self.request)
        return site_path(connected.connection.pk, next_path=connected.next, mount=mount)

    def post(self, request: HttpRequest, provider: str, record: str = "") -> HttpResponse:
        """Redirect to this URL by GET with the same parameters, because a provider may post them (form_post).

        A POST from another site comes without the session's cookie (SameSite=Lax). The redirected request has
        it. So this method does not know the owner, asks no PROVIDER_LOADER and acts on nothing.
        """
        pairs = [(name, value) for name, values in request.POST.lists() for value in values]
        response = HttpResponseRedirect(f"{request.path}?{urlencode(redirected(pairs))}")
        response.status_code = 303
        return response

    def repeated(self, provider: str, repeated: RepeatedResponse) -> HttpResponse:
        """Lead a second request with the same response to where the first one led, without its message."""
        details = {"action": "callback_repeated", "provider": provider, "code": repeated.refused}
        logger.info("callback repeated: %s", provider, extra=details)
        if not repeated.refused:
            return redirect(repeated.next_path or connections_path(self.request))
        here = not repeated.unavailable
        failure = noted_failure(repeated.refused, repeated.error, refused_here=here)
        return self.refused(provider, failure, connect_url=repeated.connect_url)

    def refused(self, provider: str, failure: Failure, **context: Any) -> HttpResponse:
        shown_error = failure.error if failure.code in CODES_WITH_A_WORD else ""
        context |= {
            "provider": provider,
            "code": failure.code,
            "message": failure.message,
            "error": shown_error,
        }
        return self.render_to_response(self.get_context_data(**context), status=failure.status)


def log_refusal(provider: str, failure: Failure) -> None:
    """Log why a callback connected nothing, with the provider's word and the endpoint that failed."""
    if failure.is_ours:
        log_our_fault(failure, provider)
        return
    details = {
        "action": "callback_refused",
        "provider": provider,
        "code": failure.code,
        "error": failure.error,
        "endpoint": failure.endpoint,
    }
    logger.warning("callback refused: %s", failure.for_log, extra=details)


def forget_parameters(request: HttpRequest) -> None:
    """Remove the code and the state, because a report of an error shows the URL and the parameters."""
    for name in ("REQUEST_URI", "RAW_URI"):  # of mod_wsgi and uWSGI, and of Gunicorn
        if name in request.META:
            request.META[name] = str(request.META[name]).partition("?")[0]
    request.META["QUERY_STRING"] = ""
    request.GET = request.POST = QueryDict()


def reporters_forget_the_query() -> None:
    """Let Sentry, if the site has it, remove the query from this request's events. It copied it before."""
    if (sentry := sys.modules.get("sentry_sdk")) is None:
        return
    with suppress(Exception):  # another version of it
        sentry.get_isolation_scope().add_event_processor(_without_query)


def _without_query(event: Any, hint: Any) -> Any:
    request = event.get("request", {})
    for name in ("query_string", "data"):
        request.pop(name, None)
    return event


class DisconnectView(Disconnects):
    """GET: a confirmation that changes nothing, and says what stays at the provider. POST: disconnects."""

    http_method_names = ["get", "head", "post", "options"]
    template_name = "oauth_connect/disconnect.html"

    def get(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        connection = self.with_own(owned, pk)
        provider = offered(connection.provider, connection.owner)
        return self.render_to_response(
            self.get_context_data(connection=connection, provider=provider, outlook=outlook(connection))
        )

    def post(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        _, text = self.disconnect(pk)
        say(request, text)
        return redirect(local_path(request.POST.get("next", "")) or connections_path(request))
