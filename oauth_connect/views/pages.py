"""The base classes of all pages: permissions, and the headers that keep pages private."""

from __future__ import annotations

import logging
from typing import Any

from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.views.generic.base import ContextMixin, TemplateResponseMixin, View

from oauth_connect.conf import InvalidLoadedEntry, UnknownProvider, conf
from oauth_connect.flows.paths import mount_of, without_response
from oauth_connect.models.owner import Owner, owner_of
from oauth_connect.protocol.provider import Provider

logger = logging.getLogger("oauth_connect.views")


class PrivatePage(TemplateResponseMixin, ContextMixin, View):
    """A page that is never cached or framed.

    It runs outside of ATOMIC_REQUESTS, so that states and tokens commit immediately.
    """

    # With "no-referrer" browsers send "Origin: null", which Django's CSRF check refuses.
    referrer_policy = "same-origin"

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        view: Any = super().as_view(**initkwargs)
        view._non_atomic_requests = set(connections)
        # Pages that need a login ask for it themselves. LoginRequiredMiddleware would put the query into the
        # login's URL, and a provider's response is in the query.
        view.login_required = False
        return view

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return self.make_private(super().dispatch(request, *args, **kwargs))

    def make_private(self, response: HttpResponseBase) -> HttpResponseBase:
        add_never_cache_headers(response)
        response.headers["Referrer-Policy"] = self.referrer_policy
        response.headers["X-Frame-Options"] = "DENY"
        return response


class OwnerPage(LoginRequiredMixin, PrivatePage):
    """A page about the owner's own connections."""

    def handle_no_permission(self) -> Any:
        # A wrong redirect URI at a provider may lead here, with a code.
        query = without_response(self.request.META.get("QUERY_STRING", ""))
        self.request.META = {**self.request.META, "QUERY_STRING": query}
        return self.make_private(super().handle_no_permission())

    @property
    def owner(self) -> Owner:
        return owner_of(self.request)

    def managing_owner(self) -> Owner:
        """Return the owner. Raises PermissionDenied (403) if this user may not manage its connections."""
        owner = self.owner
        if not owner.may_manage:
            raise PermissionDenied
        return owner


def connections_path(request: HttpRequest) -> str:
    """Return the path of the list of connections, in the mount that the visitor uses."""
    return reverse("oauth_connect:connections", current_app=mount_of(request))


def not_offered(slug: str, error: InvalidLoadedEntry) -> Http404:
    """Log a wrong entry of PROVIDER_LOADER, and return the error of its page.

    A user's text must not cause a server error.
    """
    logger.error("%s", error, extra={"action": "provider_invalid", "provider": slug})
    return Http404()


def offered_provider(slug: str, owner: str) -> Provider:
    """Return a provider at which this owner can connect accounts. Raises Http404 if it is not one."""
    try:
        provider = conf.declared_provider(slug, owner)
    except UnknownProvider:
        raise Http404 from None
    except InvalidLoadedEntry as error:
        raise not_offered(slug, error) from None
    if not provider.connects_accounts:
        raise Http404
    return provider
