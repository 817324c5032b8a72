"""The page "Which organisation or site?", where one account has access to several."""

from __future__ import annotations

import logging
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
from oauth_connect.flows.site import lists_sites, sites_of, use_site
from oauth_connect.models import Connection
from oauth_connect.protocol.provider import Provider
from oauth_connect.views.call_errors import answer_to, page_for
from oauth_connect.views.pages import OwnerPage, connections_path, offered_provider, say

logger = logging.getLogger("oauth_connect.views")


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
        return self.page(connection, provider, self.sites(connection))

    def post(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        connection, provider = self.connection(pk)
        sites, wanted = self.sites(connection), request.POST.get("site", "")
        site = next((one for one in sites if one.id == wanted), None)
        if site is None or not self.use(connection, site):
            return self.page(connection, provider, sites, error=_("Choose one of these."))
        say(request, _("%(site)s is used from now on.") % {"site": site.label})
        return redirect(self.next_path() or connections_path(request))

    def sites(self, connection: Connection) -> list[Site]:
        """Return the sites as the provider lists them now; none if the list does not fit the entry."""
        try:
            return sites_of(connection)
        except CallbackRefused as error:
            log_misfit(connection, error)
            return []

    def use(self, connection: Connection, site: Site) -> bool:
        """Let calls use a site. Return False if its values do not fit the entry."""
        try:
            use_site(connection, site)
        except CallbackRefused as error:
            log_misfit(connection, error)
            return False
        return True

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


def log_misfit(connection: Connection, error: CallbackRefused) -> None:
    """Log which field of the entry does not fit what the provider lists. No user can correct it."""
    details = {
        "action": "variable_refused",
        "provider": connection.provider,
        "connection": str(connection.pk),
    }
    logger.warning("%s", error, extra=details)
