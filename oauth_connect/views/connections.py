"""The pages: what is connected, connect, come back, disconnect."""

from __future__ import annotations

import logging
import uuid

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import redirect
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from oauth_connect import flows
from oauth_connect.conf import UnknownProvider, conf
from oauth_connect.errors import CallbackRefused, CallError
from oauth_connect.flows.disconnect import owned
from oauth_connect.flows.paths import local_path, signed_scopes
from oauth_connect.models import Connection
from oauth_connect.protocol.provider import Provider
from oauth_connect.views.pages import OwnerPage, PrivatePage

logger = logging.getLogger("oauth_connect.views")


class ConnectionsView(OwnerPage):
    """GET: the owner's connections and the providers there are."""

    http_method_names = ["get", "head", "options"]
    template_name = "oauth_connect/connections.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        owner = self.owner
        rows = Connection.objects.for_owner(owner).exclude(status=Connection.Status.REVOKED)
        providers = {slug: conf.provider(slug, owner.key) for slug in conf.provider_slugs}
        shown = [
            {"connection": row, "provider": providers.get(row.provider)}
            for row in rows.order_by("provider", "account_label")
        ]
        offered = [one for one in providers.values() if one.enabled and one.authorization_endpoint]
        return self.render_to_response(
            self.get_context_data(owner=owner, connections=shown, providers=offered)
        )


class ConnectView(OwnerPage):
    """GET: a confirmation that changes nothing. POST: begins, and sends the browser to the provider.

    Asked for JSON, POST answers ``{"authorization_url": ...}``.
    """

    http_method_names = ["get", "head", "post", "options"]
    template_name = "oauth_connect/connect.html"

    def get(self, request: HttpRequest, provider: str) -> HttpResponse:
        context = {
            "provider": self.known_provider(provider),
            "connection": self.connection_to_renew(provider),
            "next": local_path(request.GET.get("next", "")),
        }
        return self.render_to_response(self.get_context_data(**context))

    def post(self, request: HttpRequest, provider: str) -> HttpResponse:
        self.known_provider(provider)
        url = flows.begin(
            request,
            provider,
            next_path=request.GET.get("next", "") or request.POST.get("next", ""),
            scopes=signed_scopes(request.GET.get("scopes", ""), provider),
            connection=self.connection_to_renew(provider),
        )
        if request.get_preferred_type(["text/html", "application/json"]) == "application/json":
            return JsonResponse({"authorization_url": url})
        return HttpResponseRedirect(url)

    def known_provider(self, slug: str) -> Provider:
        try:
            provider = conf.provider(slug, self.managing_owner().key)
        except UnknownProvider:
            raise Http404 from None
        if not provider.enabled or not provider.authorization_endpoint:
            raise Http404
        return provider

    def connection_to_renew(self, provider: str) -> Connection | None:
        pk = self.request.GET.get("connection")
        if not pk:
            return None
        rows = Connection.objects.for_owner(self.owner).filter(provider=provider)
        try:
            return rows.get(pk=pk)
        except (Connection.DoesNotExist, ValidationError):
            raise Http404 from None


@method_decorator(sensitive_variables(), name="get")
class CallbackView(PrivatePage):
    """GET: the provider's answer. Success leads on; anything else gets a page that offers a new start.

    Not behind the login: its redirect would carry the code in a URL.
    """

    http_method_names = ["get", "head", "options"]
    template_name = "oauth_connect/refused.html"
    referrer_policy = "no-referrer"

    def get(self, request: HttpRequest, provider: str) -> HttpResponse:
        if provider not in conf.provider_slugs and not self.is_loaded(provider):
            raise Http404
        try:
            connected = flows.complete(request, provider)
        except CallbackRefused as refused:
            return self.refused(provider, refused.code, str(refused), status=400)
        except CallError as error:
            code = getattr(error, "code", "failed")
            message = _("The provider could not complete the connection. Nothing was changed.")
            return self.refused(provider, code, message, status=502)
        text = _("%(account)s is connected.") % {"account": connected.connection.account_label or provider}
        messages.success(request, text, fail_silently=True)
        return redirect(connected.next or "oauth_connect:connections")

    def is_loaded(self, provider: str) -> bool:
        try:
            conf.provider(provider)
        except UnknownProvider:
            return False
        return True

    def refused(self, provider: str, code: str, message: str, *, status: int) -> HttpResponse:
        details = {"action": "callback_refused", "provider": provider, "code": code}
        logger.warning("callback refused: %s", code, extra=details)
        context = self.get_context_data(provider=provider, code=code, message=message)
        return self.render_to_response(context, status=status)


class DisconnectView(OwnerPage):
    """GET: a confirmation that changes nothing. POST: disconnects."""

    http_method_names = ["get", "head", "post", "options"]
    template_name = "oauth_connect/disconnect.html"

    def get(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        connection = self.own_connection(pk)
        return self.render_to_response(self.get_context_data(connection=connection))

    def post(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        connection = self.own_connection(pk)
        flows.disconnect(self.owner, pk)
        text = _("%(account)s is disconnected.") % {
            "account": connection.account_label or connection.provider
        }
        messages.success(request, text, fail_silently=True)
        return redirect(local_path(request.POST.get("next", "")) or "oauth_connect:connections")

    def own_connection(self, pk: uuid.UUID) -> Connection:
        """Return the owner's connection; another's is answered like none at all."""
        try:
            return owned(self.managing_owner(), pk)
        except Connection.DoesNotExist:
            raise Http404 from None
