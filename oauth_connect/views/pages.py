"""The base classes of all pages: permissions, and the headers that keep pages private."""

from __future__ import annotations

import logging
from typing import Any

from django.contrib import messages
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import connections
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext as _
from django.views.generic.base import ContextMixin, TemplateResponseMixin, View

from oauth_connect.conf import InvalidLoadedEntry, LoaderFailed, UnknownProvider, conf
from oauth_connect.flows.paths import mount_of, without_response
from oauth_connect.flows.pending import has_messages_in_session, is_in_cookie
from oauth_connect.models.owner import Owner, owner_of
from oauth_connect.protocol.provider import Provider
from oauth_connect.views.json_answers import error_json, not_authenticated, wants_json

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


class MayNotManage(PermissionDenied):
    """The user may look at the owner's connections, and not change them."""


class UnknownConnection(Http404):
    """The owner has no such connection: it is another owner's, is disconnected, or never was."""


class OwnerPage(LoginRequiredMixin, PrivatePage):
    """A page about the owner's own connections."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return super().dispatch(request, *args, **kwargs)
        except MayNotManage:
            return self.make_private(self.not_allowed())

    def not_allowed(self) -> HttpResponse:
        """Return the page that says whom to ask."""
        if self.wants_json():
            message = f"{_('Other people connect, choose and disconnect these accounts.')} "
            return error_json("may_not_manage", message + whom_to_ask(self.owner), 403)
        return self.response_class(
            request=self.request,
            template=["oauth_connect/not_allowed.html"],
            context=self.get_context_data(),
            status=403,
        )

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        owner = self.owner
        return super().get_context_data(**{"owner": owner, "whom_to_ask": whom_to_ask(owner), **kwargs})

    def wants_json(self) -> bool:
        return wants_json(self.request)

    def handle_no_permission(self) -> Any:
        if self.wants_json():
            return self.make_private(not_authenticated())
        # A wrong redirect URI at a provider may lead here, with a code.
        query = without_response(self.request.META.get("QUERY_STRING", ""))
        self.request.META = {**self.request.META, "QUERY_STRING": query}
        return self.make_private(super().handle_no_permission())

    @property
    def owner(self) -> Owner:
        return owner_of(self.request)

    def managing_owner(self) -> Owner:
        """Return the owner. Raises MayNotManage if this user may not manage its connections."""
        owner = self.owner
        if not owner.may_manage:
            raise MayNotManage
        return owner


def whom_to_ask(owner: Owner) -> str:
    """Return the sentence for a user who may not manage the owner's connections."""
    if owner.contact:
        return _("Ask %(contact)s.") % {"contact": owner.contact}
    if owner.label:
        return _("Ask someone who manages %(owner)s.") % {"owner": owner.label}
    return _("Ask someone who manages these accounts.")


def not_prefetched() -> HttpResponse:
    """Return an empty 503, so that the browser asks again when its user opens the page."""
    response = HttpResponse(status=503)
    # Nothing failed: Django must not log an error, and must not mail one to the administrators.
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response


def say(request: HttpRequest, text: str) -> None:
    """Show a text once on the next page, unless the session has ended meanwhile and cannot keep it.

    Otherwise Django answers 400 at the end of a request that has done what it was asked for.
    """
    if text in _unread(request):
        return
    session = request.session
    needs_session = has_messages_in_session(request) and not is_in_cookie(request)
    if not needs_session or (session.session_key and session.exists(session.session_key)):
        messages.success(request, text, fail_silently=True)


def read_all_but(request: HttpRequest, text: str) -> list[Any]:
    """Take the messages that wait, and return them without a text that is not true any more."""
    return [message for message in messages.get_messages(request) if str(message) != text]


def _unread(request: HttpRequest) -> list[str]:
    """Return the texts that the next page will show."""
    storage: Any = messages.get_messages(request)
    texts = [str(message) for message in storage]
    if hasattr(storage, "used"):  # a list if the site has no messages
        storage.used = False  # they are still to be shown
    return texts


def connections_path(request: HttpRequest) -> str:
    """Return the path of the list of connections, in the mount that the visitor uses."""
    return reverse("oauth_connect:connections", current_app=mount_of(request))


def offered(slug: str, owner: str) -> Provider | None:
    """Return a provider, or None if it is not offered. Log a wrong entry, so that the page still works."""
    try:
        return offered_provider(slug, owner)
    except Http404:
        return None
    except ImproperlyConfigured as error:
        details = {"action": "provider_invalid", "provider": slug}
        logger.error("%s", error, exc_info=isinstance(error, LoaderFailed), extra=details)
        return None


def not_offered(slug: str, error: InvalidLoadedEntry) -> Http404:
    """Log a wrong entry of PROVIDER_LOADER, and return the error of its page.

    A user's text must not cause a server error.
    """
    logger.error("%s", error, extra={"action": "provider_invalid", "provider": slug})
    return Http404()


def offered_provider(slug: str, owner: str) -> Provider:
    """Return a provider at which this owner can connect accounts. Raises Http404 if it is not one."""
    try:
        provider = conf.connectable_provider(slug, owner)
    except UnknownProvider:
        raise Http404(f"There is no provider {slug!r}.") from None
    except InvalidLoadedEntry as error:
        raise not_offered(slug, error) from None
    if provider is None:
        raise Http404(f"Users connect no accounts of {slug!r} here.")
    return provider
