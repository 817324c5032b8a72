"""The page "Which organisation or site?", where one account has access to several."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from oauth_connect.errors import CallbackRefused, CallError, ReauthorizationRequired
from oauth_connect.flows.account import Site
from oauth_connect.flows.disconnect import owned
from oauth_connect.flows.paths import local_path
from oauth_connect.flows.site import choose_site, lists_sites, sites_of
from oauth_connect.models import Connection
from oauth_connect.protocol.provider import Provider
from oauth_connect.views.call_errors import answer_to, page_for
from oauth_connect.views.pages import OwnerPage, connections_path, offered_provider, say


class SiteView(OwnerPage):
    """GET: what the account has access to, as the provider lists it now. POST: calls use the chosen one."""

    http_method_names = ["get", "head", "post", "options"]
    template_name = "oauth_connect/site.html"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return super().dispatch(request, *args, **kwargs)
        except ReauthorizationRequired as error:
            answer = answer_to(request, error)
        except CallError as error:
            answer = page_for(request, error, provider="")
        except Connection.DoesNotExist:  # disconnected while the provider was asked
            raise Http404 from None
        if answer is None:
            raise Http404
        return self.make_private(answer)

    def get(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        connection, provider = self.connection(pk)
        try:
            sites = sites_of(connection)
        except CallbackRefused:
            sites = []
        return self.page(connection, provider, sites)

    def post(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        connection, provider = self.connection(pk)
        site = choose_site(connection, request.POST.get("site", ""))
        if site is None:
            error = _("Choose one of these.")
            return self.page(connection, provider, sites_of(connection), error=error)
        say(request, _("%(site)s is used from now on.") % {"site": site.label})
        return redirect(self.next_path() or connections_path(request))

    def connection(self, pk: uuid.UUID) -> tuple[Connection, Provider]:
        """Return a connection of this owner, and its provider. Raises Http404."""
        try:
            connection = owned(self.managing_owner(), pk)
        except Connection.DoesNotExist:
            raise Http404 from None
        provider = offered_provider(connection.provider, connection.owner)
        if not lists_sites(provider):
            raise Http404
        return connection, provider

    def page(
        self, connection: Connection, provider: Provider, sites: Sequence[Site], *, error: str = ""
    ) -> HttpResponse:
        labels = {site.label for site in sites}
        context = {
            "connection": connection,
            "provider": provider,
            "sites": sites,
            "with_ids": len(labels) < len(sites),
            "in_use": connection.variables.get(provider.accounts.variable),
            "next": self.next_path(),
            "error": error,
        }
        return self.render_to_response(self.get_context_data(**context), status=400 if error else 200)

    def next_path(self) -> str:
        return local_path(self.request.GET.get("next", "") or self.request.POST.get("next", ""))
