from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlencode

import requests
from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.generic import TemplateView

from oauth_connect.errors import AmbiguousConnection, ReauthorizationRequired
from oauth_connect.models import Connection
from oauth_connect.views import ConnectionRequiredMixin

from .codeyard import PROVIDER, SCOPES, Codeyard, figures

logger = logging.getLogger(__name__)


class DashboardView(LoginRequiredMixin, TemplateView):
    """Shows repositories and recent activity. Without a usable connection, shows a link to connect."""

    template_name = "desk/dashboard.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        account = self.request.GET.get("account")
        return super().get_context_data(account=account, **self._overview(account), **kwargs)

    def _overview(self, account: str | None) -> dict[str, Any]:
        try:
            codeyard = Codeyard(self.request.user, account)
            return {
                "repositories": codeyard.repositories(),
                "activity": codeyard.recent_activity(),
            }
        except AmbiguousConnection:
            return {"accounts": _connections(self.request).filter(provider=PROVIDER)}
        except ReauthorizationRequired as error:
            return {"connect_url": _with_next(error.connect_url, self.request), "reason": error.reason}
        except requests.RequestException as error:
            logger.warning("Codeyard could not be read: %s", error)
            return {"unavailable": True}


class RepositoryView(ConnectionRequiredMixin, TemplateView):
    """Shows the activity of one repository. A user without a connection is redirected to connect first."""

    template_name = "desk/repository.html"
    connection_provider = PROVIDER
    connection_scopes = SCOPES
    connection_several = True  # the URL names the account

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        account = request.GET.get("account")
        try:
            found: dict[str, Any] = {"activity": Codeyard(request.user, account).activity_of(name)}
        except AmbiguousConnection:
            return redirect("dashboard")
        except ReauthorizationRequired:
            raise  # The mixin redirects to connect.
        except requests.RequestException as error:
            if error.response is not None and error.response.status_code == 404:
                raise Http404(f"No repository {name}") from error
            logger.warning("Codeyard could not be read: %s", error)
            found = {"unavailable": True}
        return self.render_to_response(self.get_context_data(name=name, account=account, **found))


class FiguresView(LoginRequiredMixin, TemplateView):
    """Shows figures about all of Codeyard. No connection is needed, because Desk has a machine token."""

    template_name = "desk/figures.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        try:
            found: dict[str, Any] = {"figures": figures()}
        except requests.RequestException as error:
            logger.warning("Codeyard could not be read: %s", error)
            found = {"unavailable": True}
        return super().get_context_data(**found, **kwargs)


@login_required
@never_cache
def status(request: HttpRequest) -> JsonResponse:
    """Return the status of the user's connections, without tokens."""
    return JsonResponse({"connections": [_status_of(each) for each in _connections(request)]})


def _connections(request: HttpRequest) -> Any:
    return Connection.objects.for_owner(request.user)


def _status_of(connection: Connection) -> dict[str, Any]:
    return {
        "id": connection.pk,
        "provider": connection.provider,
        "account": connection.account_label,
        "scopes": connection.scopes,
        "status": connection.status,
        "version": connection.version,
        "expires_at": connection.expires_at,
        "last_refreshed_at": connection.last_refreshed_at,
    }


def _with_next(url: str, request: HttpRequest) -> str:
    separator = "&" if "?" in url else "?"
    return f"{url}{separator}{urlencode({'next': request.get_full_path()})}"
