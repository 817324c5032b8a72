"""The pages: list of connections, connect, callback, disconnect."""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core import signing
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.csrf import csrf_exempt

from oauth_connect import flows
from oauth_connect.conf import InvalidLoadedEntry, conf
from oauth_connect.errors import CallbackRefused, CallError, OwnerMismatch
from oauth_connect.flows.disconnect import outlook, owned
from oauth_connect.flows.paths import local_path, signed_scopes
from oauth_connect.models import Connection, Owner
from oauth_connect.protocol.grants.callback import redirected
from oauth_connect.protocol.grants.error_codes import shown
from oauth_connect.protocol.provider import Provider
from oauth_connect.tracebacks import without_locals
from oauth_connect.views.pages import OwnerPage, PrivatePage, connections_path, not_offered, offered_provider
from oauth_connect.views.refusals import FAILED, TEXTS, UNTRUSTED
from oauth_connect.views.variables import VariablesForm

logger = logging.getLogger("oauth_connect.views")
STILL_USED = gettext_lazy(
    "Another connection uses the same access. The provider revokes it when that one is disconnected too."
)
WITHDRAW = gettext_lazy(
    "This site cannot revoke its access at the provider. Withdraw it in the settings of your account there."
)


def offered(slug: str, owner: str) -> Provider | None:
    """Return a provider, or None if it is not offered. Log a wrong entry, so that the page still works."""
    try:
        return offered_provider(slug, owner)
    except Http404:
        return None
    except ImproperlyConfigured as error:
        logger.error("%s", error, extra={"action": "provider_invalid", "provider": slug})
        return None


class ConnectionsView(OwnerPage):
    """GET: the owner's connections and the providers on offer."""

    http_method_names = ["get", "head", "options"]
    template_name = "oauth_connect/connections.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        owner = self.owner
        rows = Connection.objects.for_owner(owner).exclude(status=Connection.Status.REVOKED)
        shown = [
            {"connection": row, "provider": offered(row.provider, owner.key)}
            for row in rows.order_by("provider", "account_label")
            if row.owner_agrees
        ]
        providers = [one for slug in conf.provider_slugs if (one := offered(slug, owner.key))]
        return self.render_to_response(
            self.get_context_data(owner=owner, connections=shown, providers=providers)
        )


class ConnectView(OwnerPage):
    """GET: a confirmation that changes nothing. POST: starts, and redirects the browser to the provider.

    If the request accepts JSON first, POST returns ``{"authorization_url": ...}``.
    """

    http_method_names = ["get", "head", "post", "options"]
    template_name = "oauth_connect/connect.html"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return super().dispatch(request, *args, **kwargs)
        except signing.SignatureExpired:
            return self.make_private(self.failed(kwargs["provider"], "link_ended", TEXTS["link_ended"], 410))

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
        }
        return self.render_to_response(self.get_context_data(**context), status=status)

    def post(self, request: HttpRequest, provider: str) -> HttpResponse:
        known, connection = self.known_provider(provider), self.connection_to_renew(provider)
        form = VariablesForm(known, flows.asked_variables(known, connection), request.POST)
        if not form.is_valid():
            if self.wants_json():
                return JsonResponse({"errors": form.errors_by_path}, status=400)
            return self.page(known, connection, form, status=400)
        try:
            url = flows.begin(
                request,
                provider,
                # The callback's path has the site's language. This one is the user's.
                next_path=self.next_path() or connections_path(request),
                scopes=self.extra_scopes(provider),
                connection=connection,
                variables=form.cleaned_data,
            )
        except CallError as error:
            return self.undiscovered(provider, getattr(error, "code", "failed"))
        except InvalidLoadedEntry as error:  # does not fit its issuer's metadata
            raise not_offered(provider, error) from None
        if self.wants_json():
            return JsonResponse({"authorization_url": url})
        return HttpResponseRedirect(url)

    def undiscovered(self, provider: str, code: str) -> HttpResponse:
        """Return a page or JSON that says that discovery failed. A retry may succeed."""
        details = {"action": "connect_failed", "provider": provider, "code": shown(code)}
        logger.warning("connect failed: %s", details["code"], extra=details)
        return self.failed(provider, code, FAILED, 502)

    def failed(self, provider: str, code: str, message: object, status: int) -> HttpResponse:
        if self.wants_json():
            return JsonResponse({"error": code}, status=status)
        context = self.get_context_data(provider=provider, code=code, message=message)
        return self.response_class(
            request=self.request, template=["oauth_connect/refused.html"], context=context, status=status
        )

    def next_path(self) -> str:
        return self.request.GET.get("next", "") or self.request.POST.get("next", "")

    def wants_json(self) -> bool:
        return self.request.get_preferred_type(["text/html", "application/json"]) == "application/json"

    def extra_scopes(self, provider: str) -> list[str]:
        return signed_scopes(self.request.GET.get("scopes", ""), provider, self.owner)

    def known_provider(self, slug: str) -> Provider:
        return offered_provider(slug, self.managing_owner().key)

    def connection_to_renew(self, provider: str) -> Connection | None:
        pk = self.request.GET.get("connection")
        if not pk:
            return None
        rows = Connection.objects.for_owner(self.owner).filter(provider=provider)
        try:
            found = rows.get(pk=pk)
            found.check_owner()
            return found
        except (Connection.DoesNotExist, OwnerMismatch, ValidationError):
            raise Http404 from None


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
            return super().dispatch(request, *args, **kwargs)
        finally:  # a status of 5xx is mailed too, and the page is rendered after this method
            forget_parameters(request)

    def get(self, request: HttpRequest, provider: str, record: str = "") -> HttpResponse:
        try:
            connected = flows.complete(request, provider, record)
        except CallbackRefused as refused:
            return self.refused(provider, refused.code, TEXTS.get(refused.code, UNTRUSTED), status=400)
        except CallError as error:
            return self.refused(provider, getattr(error, "code", "failed"), FAILED, status=502)
        text = _("%(account)s is connected.") % {"account": connected.connection.account_label or provider}
        messages.success(request, text, fail_silently=True)
        return redirect(connected.next or connections_path(request))

    def post(self, request: HttpRequest, provider: str, record: str = "") -> HttpResponse:
        """Redirect to this URL by GET with the same parameters, because a provider may post them (form_post).

        A POST from another site comes without the session's cookie (SameSite=Lax). The redirected request has
        it. So this method does not know the owner, asks no PROVIDER_LOADER and acts on nothing.
        """
        pairs = [(name, value) for name, values in request.POST.lists() for value in values]
        response = HttpResponseRedirect(f"{request.path}?{urlencode(redirected(pairs))}")
        response.status_code = 303
        return response

    def refused(self, provider: str, code: str, message: object, *, status: int) -> HttpResponse:
        # With the status 400 the code is this package's, otherwise it may be the provider's.
        safe_code = code if status == 400 else shown(code)
        details = {"action": "callback_refused", "provider": provider, "code": safe_code}
        logger.warning("callback refused: %s", safe_code, extra=details)
        context = self.get_context_data(provider=provider, code=code, message=message)
        return self.render_to_response(context, status=status)


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


class DisconnectView(OwnerPage):
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
        # Before: with ATOMIC_REQUESTS the provider is asked after this response.
        before = outlook(self.with_own(owned, pk))
        connection = self.with_own(partial(flows.disconnect, actor=request.user), pk)
        text = _("%(account)s is disconnected.") % {
            "account": connection.account_label or connection.provider
        }
        if before == "kept":
            text = f"{text} {STILL_USED}"
        elif before == "unsupported":
            text = f"{text} {WITHDRAW}"
        messages.success(request, text, fail_silently=True)
        return redirect(local_path(request.POST.get("next", "")) or connections_path(request))

    def with_own(self, act: Callable[[Owner, uuid.UUID], Connection], pk: uuid.UUID) -> Connection:
        """Act on the owner's connection. Raises Http404 for another owner's, as for an unknown one."""
        try:
            return act(self.managing_owner(), pk)
        except Connection.DoesNotExist:
            raise Http404 from None
