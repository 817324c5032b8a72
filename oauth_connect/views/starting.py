"""How the connect page and the JSON API start a flow. Each reads its own input and has its own answers."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from django.contrib.sessions.exceptions import SessionInterrupted
from django.core import signing
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from oauth_connect import flows
from oauth_connect.conf import InvalidLoadedEntry
from oauth_connect.errors import CallError, InvalidProvider, OwnerMismatch
from oauth_connect.flows import flow_cookie
from oauth_connect.flows.paths import signed_scopes
from oauth_connect.flows.pending import note_arrival
from oauth_connect.models import Connection
from oauth_connect.protocol.provider import Provider
from oauth_connect.views.failures import Failure, failure_of, log_our_fault
from oauth_connect.views.pages import (
    OwnerPage,
    UnknownConnection,
    connections_path,
    not_offered,
    offered_provider,
)
from oauth_connect.views.variables import VariablesForm

logger = logging.getLogger("oauth_connect.views")


class StartsFlow(OwnerPage):
    """A view whose POST starts a flow. A subclass says what was given, and answers."""

    @abstractmethod
    def value(self, name: str) -> str:
        """Return one of ``next``, ``scopes`` and ``connection``, or ""."""

    @abstractmethod
    def typed(self) -> Mapping[str, str]:
        """Return the values of the variables by their names."""

    @abstractmethod
    def started(self, provider: Provider, url: str) -> HttpResponse:
        """Answer with the URL at the provider."""

    @abstractmethod
    def invalid(self, provider: Provider, connection: Connection | None, form: VariablesForm) -> HttpResponse:
        """Answer that values of variables are wrong."""

    @abstractmethod
    def not_started(self, provider: str, failure: Failure, error: Exception) -> HttpResponse:
        """Answer that discovery failed, or that this site lacks a key, or a setting, or has a wrong one."""

    @abstractmethod
    def interrupted(self, provider: str, code: str, status: int) -> HttpResponse:
        """Answer that the link or the session has ended."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        slug = kwargs["provider"]
        note_arrival(request)
        try:
            response = super().dispatch(request, *args, **kwargs)
            flow_cookie.add_to(response, request)
            return response
        except signing.SignatureExpired:
            return self.make_private(self.interrupted(slug, "link_ended", 410))
        except SessionInterrupted:
            return self.make_private(self.interrupted(slug, "session_ended", 400))

    def post(self, request: HttpRequest, provider: str) -> HttpResponse:
        known, connection = self.known_provider(provider), self.connection_to_renew(provider)
        form = VariablesForm(known, flows.asked_variables(known, connection), self.typed())
        if not form.is_valid():
            return self.invalid(known, connection, form)
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
            return self.not_started(provider, noted(provider, error), error)
        except InvalidLoadedEntry as error:  # does not fit its issuer's metadata
            raise not_offered(provider, error) from None
        except InvalidProvider as error:
            if not form.fields or known.missing_variables():
                return self.not_started(provider, noted(provider, error), error)
            form.refuse_all()
            return self.invalid(known, connection, form)
        except ImproperlyConfigured as error:
            self.known_provider(provider)  # 404 if the issuer's metadata, which is known now, says no
            return self.not_started(provider, noted(provider, error), error)
        return self.started(known, url)

    def next_path(self) -> str:
        return self.value("next")

    def extra_scopes(self, provider: str) -> list[str]:
        return signed_scopes(self.value("scopes"), provider, self.owner)

    def known_provider(self, slug: str) -> Provider:
        return offered_provider(slug, self.managing_owner().key)

    def connection_to_renew(self, provider: str) -> Connection | None:
        pk = self.value("connection")
        if not pk:
            return None
        rows = Connection.objects.from_primary().for_owner(self.owner).filter(provider=provider)
        try:
            found = rows.get(pk=pk)
            found.check_owner()
            return found
        except (Connection.DoesNotExist, OwnerMismatch, ValidationError):
            raise UnknownConnection from None


def noted(provider: str, error: Exception) -> Failure:
    """Return what to say about a flow that could not start, and log it."""
    failure = failure_of(error)
    if failure.is_ours:
        log_our_fault(failure, provider)
    else:
        details = {"action": "connect_failed", "provider": provider, "code": failure.code}
        logger.warning("connect failed: %s", failure.for_log, extra=details)
    return failure
