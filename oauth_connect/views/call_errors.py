"""Answers a request whose view met an error of a call: a redirect to connect or choose, a page, or JSON.

``connection_required`` and ``ConnectionErrorsMiddleware`` share this module.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import PermissionDenied
from django.db import connections
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext_lazy as _

from oauth_connect.errors import (
    AmbiguousConnection,
    KeyUnavailable,
    ProviderMisconfigured,
    ProviderUnavailable,
    ReauthorizationRequired,
)
from oauth_connect.flows.paths import local_path, without_response
from oauth_connect.models import Connection
from oauth_connect.models.owner import owner_of
from oauth_connect.protocol.grants.error_codes import shown
from oauth_connect.protocol.quirks import is_code_parameter
from oauth_connect.views.failures import Failure, developers_box, failure_of, log_our_fault
from oauth_connect.views.json_answers import choices, wants_json

logger = logging.getLogger("oauth_connect.views")
Answered = ReauthorizationRequired, ProviderUnavailable, ProviderMisconfigured, KeyUnavailable
DEFAULT_RETRY_AFTER = 30.0  # seconds, where the provider names no time
TITLES = {
    503: _("Not available at the moment"),
    502: _("This page does not work"),
    500: _("This page does not work"),
}
MESSAGES = {
    503: _("This page needs another service, which does not respond at the moment. Try again later."),
    502: _(
        "This page needs another service, and this site's settings do not match it. "
        "The operators of this site must correct them."
    ),
    500: _("This site is not set up completely. Its operators must correct that."),
}


def answer_to(request: HttpRequest, error: Exception, provider: str = "") -> HttpResponseBase | None:
    """Return the response to a request whose view raised this error, or None for other errors.

    ``provider``: the name that the view requires, if it is known.
    """
    if isinstance(error, ReauthorizationRequired):
        return _to_page(
            request, error.connect_url, 403, error=shown(error.reason), connect_url=error.connect_url
        )
    if isinstance(error, AmbiguousConnection):
        # A page needs no accounts, and the site's OWNER need not know this request.
        accounts = choices(_own(request, error.connections)) if wants_json(request) else []
        url = {"choose_url": error.choose_url}
        return _to_page(request, error.choose_url, 409, error="several_accounts", **url, accounts=accounts)
    return page_for(request, error, provider) if isinstance(error, Answered) else None


def page_for(request: HttpRequest, error: Exception, provider: str) -> HttpResponseBase:
    """Return the page, or the JSON, for a call that failed."""
    failure = failure_of(error)
    _log(failure, provider, error)
    status = status_of(failure, error)
    response = _page(request, status, failure, developers_box(request, error, provider))
    add_retry_after(response, error)
    add_never_cache_headers(response)
    return response


def status_of(failure: Failure, error: Exception) -> int:
    """Return the status for a call that failed: 503 if trying again later may help."""
    return 503 if isinstance(error, ProviderUnavailable) else failure.status


def add_retry_after(response: HttpResponseBase, error: Exception) -> None:
    """Say when to try again (RFC 9110 section 10.2.3), if that may help."""
    if isinstance(error, ProviderUnavailable):
        response.headers["Retry-After"] = str(math.ceil(error.retry_after or DEFAULT_RETRY_AFTER))


def roll_back(request: HttpRequest) -> None:
    """Mark the transactions of ATOMIC_REQUESTS to be rolled back, as if the view's error had left it."""
    match = request.resolver_match
    exempt = getattr(match and match.func, "_non_atomic_requests", ())
    for connection in connections.all(initialized_only=True):
        is_request = connection.settings_dict["ATOMIC_REQUESTS"] and connection.alias not in exempt
        if is_request and connection.in_atomic_block:
            connection.set_rollback(True)


def _to_page(request: HttpRequest, path: str, status: int, **answer: Any) -> HttpResponseBase | None:
    """Redirect to connect or to choose. The error has its own provider and scopes, not those of the view.

    ``path``: of the page. Empty: the site does not include our URLs, and the error passes. ``answer``: the
    JSON.
    """
    if not path:
        return None
    if wants_json(request):
        response: HttpResponse = JsonResponse(answer, status=status)
    else:
        separator = "&" if "?" in path else "?"
        response = HttpResponseRedirect(f"{path}{separator}{urlencode({'next': this_page(request)})}")
    add_never_cache_headers(response)
    return response


def _own(request: HttpRequest, connections: Sequence[Connection]) -> list[Connection]:
    """Return those of the request's owner. The view may have asked for another owner's."""
    user = getattr(request, "user", None)
    if not connections or user is None or not user.is_authenticated:
        return []
    try:
        owner = owner_of(request)
    except (PermissionDenied, Http404):  # the site's OWNER knows none for this visitor
        return []
    return [row for row in connections if row.owner == owner.key]


def _log(failure: Failure, provider: str, error: Exception) -> None:
    if failure.is_ours:
        log_our_fault(failure, provider)
    elif isinstance(error, ProviderMisconfigured):
        wrong = {"action": "view_misconfigured", "provider": provider, "code": failure.code}
        logger.error("a view cannot call its provider: %s", failure.for_log, extra=wrong)
    else:
        details = {"action": "view_unavailable", "provider": provider, "code": failure.code}
        logger.warning("a view cannot call its provider now: %s", failure.for_log, extra=details)


def _page(
    request: HttpRequest, status: int, failure: Failure, developers: dict[str, str] | None
) -> HttpResponseBase:
    if wants_json(request):
        return JsonResponse({"error": failure.code}, status=status)
    context = {
        "title": TITLES[status],
        "message": MESSAGES[status],
        "code": failure.code,
        "try_again": local_path(this_page(request)) if request.method in ("GET", "HEAD") else "",
        "developers": developers,
    }
    return render(request, "oauth_connect/call_failed.html", context, status=status)


def this_page(request: HttpRequest) -> str:
    """Return the path and query of a request, without a provider's response that went to the wrong page."""
    has_result = "error" in request.GET or any(map(is_code_parameter, request.GET))
    is_response = "state" in request.GET and has_result
    path = request.get_full_path()
    if not is_response:
        return path
    query = without_response(request.META.get("QUERY_STRING", ""))
    return f"{path.partition('?')[0]}{'?' if query else ''}{query}"
