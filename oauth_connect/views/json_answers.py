"""Answers in JSON: whether a request prefers them, and the form of an error."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from oauth_connect.models import Connection

UNKNOWN_CONNECTION = gettext_lazy("There is no such connection, or it has been disconnected.")


def wants_json(request: HttpRequest) -> bool:
    preferred = request.get_preferred_type(["text/html", "application/json"])
    if preferred is not None:
        return preferred == "application/json"
    # With a parameter ("application/json; charset=utf-8") or a suffix ("application/vnd.api+json").
    return any(re.fullmatch(r"(?:.+\+)?json", one.sub_type) for one in request.accepted_types)


def error_json(code: str, message: object, status: int, **more: Any) -> JsonResponse:
    """Return an error with its code for programs and its sentence for users."""
    return JsonResponse({"error": code, "message": str(message), **more}, status=status)


def not_authenticated() -> JsonResponse:
    """Return the answer to a visitor who is not signed in (RFC 9110 section 15.5.2)."""
    try:
        login_url = resolve_url(str(settings.LOGIN_URL))
    except NoReverseMatch:  # a system check reports it
        login_url = ""
    response = error_json("not_authenticated", _("Sign in first."), 401, login_url=login_url)
    # A 401 must have a challenge. Browsers ask for no password for a scheme that they do not know.
    response.headers["WWW-Authenticate"] = "Session"
    return response


def choices(connections: Iterable[Connection]) -> list[dict[str, str]]:
    """Return what a program needs to let its user choose one of several accounts."""
    return [{"id": str(row.pk), "account": name_of(row), "account_id": row.account_id} for row in connections]


def name_of(connection: Connection) -> str:
    """Return the name of a connection's account, as the pages show it."""
    return connection.account_label or connection.account_id
