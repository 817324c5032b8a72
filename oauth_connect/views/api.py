"""The JSON API: what the pages show and do, for a site's own scripts. docs/json.md lists all answers."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from django.conf import settings
from django.core.exceptions import (
    BadRequest,
    PermissionDenied,
    RequestDataTooBig,
    TooManyFieldsSent,
    TooManyFilesSent,
)
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware, get_token
from django.utils.decorators import decorator_from_middleware
from django.utils.log import log_response
from django.utils.translation import gettext_lazy as _

from oauth_connect.models import Connection
from oauth_connect.protocol.provider import Provider
from oauth_connect.views.body import Given, InvalidBody, given
from oauth_connect.views.call_errors import add_retry_after, status_of
from oauth_connect.views.disconnecting import Disconnects
from oauth_connect.views.failures import Failure
from oauth_connect.views.json_answers import UNKNOWN_CONNECTION, error_json
from oauth_connect.views.listing import as_json
from oauth_connect.views.pages import OwnerPage, PrivatePage, UnknownConnection
from oauth_connect.views.refusals import TEXTS
from oauth_connect.views.starting import StartsFlow
from oauth_connect.views.variables import VariablesForm

# Django's errors for a body that it does not read.
UNREADABLE = (BadRequest, MultiPartParserError, RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent)
csrf_logger = logging.getLogger("django.security.csrf")  # Django's own
TEXT = {
    "csrf_failed": _("This request lacks its CSRF token, or comes from another site. Load the page again."),
    "invalid_body": _("The body is too large, or it is not the form that its content type says."),
    "invalid_variables": _("Some values are missing or wrong."),
    "method_not_allowed": _("This address has no such method."),
    "not_found": _("There is nothing at this address."),
    "permission_denied": _("This site does not permit that."),
    "unknown_connection": UNKNOWN_CONNECTION,
    "unknown_provider": _("This site connects no accounts of this provider."),
    "user_inactive": TEXTS["user_inactive"],
}


def refused(code: str, status: int) -> JsonResponse:
    return error_json(code, TEXT[code], status)


class CsrfInJson(CsrfViewMiddleware):
    """Django's check of requests from other sites. It answers in JSON, and always sets the cookie.

    It stores no token in a session (CSRF_USE_SESSIONS): no script could read it there, and each request of a
    stranger would make a session. The site's own page stores it.
    """

    def process_view(self, request: HttpRequest, *view: Any) -> Any:
        answer = super().process_view(request, *view)
        if not settings.CSRF_USE_SESSIONS:
            get_token(request)  # process_response then sets the cookie
        return answer

    def _reject(self, request: HttpRequest, reason: str) -> HttpResponseBase:
        response = refused("csrf_failed", 403)
        log_response(
            "Forbidden (%s): %s",
            reason,
            request.path,
            response=response,
            request=request,
            logger=csrf_logger,
        )
        return response


csrf_in_json = decorator_from_middleware(CsrfInJson)


class JsonAnswers(PrivatePage):
    """A view that the site's CSRF middleware leaves alone, because that answers with a page."""

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        view = super().as_view(**initkwargs)
        view.csrf_exempt = True  # for the middleware
        return view

    def make_private(self, response: HttpResponseBase) -> HttpResponseBase:
        # No browser takes the answer for a page or a script.
        response.headers["X-Content-Type-Options"] = "nosniff"
        return super().make_private(response)


class ApiView(JsonAnswers, OwnerPage):
    """A view that answers each request in JSON: never with a redirect or a page."""

    not_found = "not_found"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        view = csrf_in_json(super().dispatch) if request.method in self.methods else self.wrong_method
        try:
            response = view(request, *args, **kwargs)
        except UnknownConnection:
            response = refused("unknown_connection", 404)
        except Http404:
            response = refused(self.not_found, 404)
        except InvalidBody as error:
            response = error_json("invalid_body", error, 400)
        except UNREADABLE:
            response = refused("invalid_body", 400)
        except PermissionDenied:
            is_active = getattr(request.user, "is_active", True)
            response = refused("permission_denied" if is_active else "user_inactive", 403)
        return self.make_private(response)

    def wants_json(self) -> bool:
        return True

    @property
    def methods(self) -> list[str]:
        return [name.upper() for name in self.http_method_names]

    def wrong_method(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = refused("method_not_allowed", 405)
        response.headers["Allow"] = ", ".join(self.methods)
        return response


class ConnectionsApi(ApiView):
    """GET: the owner's connections and the providers on offer. Sets the CSRF cookie."""

    http_method_names = ["get", "head"]

    def get(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse(as_json(request, self.owner))


class ConnectApi(ApiView, StartsFlow):
    """POST: starts a flow, and answers with the URL at the provider to which the browser must go."""

    http_method_names = ["post"]
    not_found = "unknown_provider"

    @cached_property
    def given(self) -> Given:
        return given(self.request)

    def value(self, name: str) -> str:
        return self.given.parameters.get(name, "")

    def typed(self) -> Mapping[str, str]:
        return self.given.variables

    def started(self, provider: Provider, url: str) -> HttpResponse:
        return JsonResponse({"authorization_url": url})

    def invalid(self, provider: Provider, connection: Connection | None, form: VariablesForm) -> HttpResponse:
        text = TEXT["invalid_variables"]
        return error_json("invalid_variables", text, 400, errors=form.errors_by_path)

    def not_started(self, provider: str, failure: Failure, error: Exception) -> HttpResponse:
        return failed(failure, error)

    def interrupted(self, provider: str, code: str, status: int) -> HttpResponse:
        return error_json(code, TEXTS[code], status)


class ConnectionApi(ApiView, Disconnects):
    """DELETE: disconnects an account."""

    http_method_names = ["delete"]
    not_found = "unknown_connection"

    def delete(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        at_provider, text = self.disconnect(pk)
        return JsonResponse({"disconnected": True, "at_provider": at_provider, "message": text})


class UnknownApi(JsonAnswers):
    """Answers requests for an address that the API does not have, with any method."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return self.make_private(refused("not_found", 404))


def failed(failure: Failure, error: Exception) -> JsonResponse:
    """Return the answer to a request for which a call to the provider failed, or this site's key is wrong."""
    response = error_json(failure.code, failure.message, status_of(failure, error))
    add_retry_after(response, error)
    return response
