"""A second copy of the newest flow, in a cookie: another request may write an old copy of the session back.

Django saves a session as a whole. If a slow request has loaded it before the flow began, the flow is gone
when that request ends. The cookie is sealed for the session that started the flow. No other session opens it.
"""

from __future__ import annotations

from dataclasses import asdict
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from oauth_connect import crypto
from oauth_connect.errors import KeyUnavailable
from oauth_connect.flows.pending import LIFETIME, PendingAuthorization, is_in_cookie, name_of

NAME = "oauth_connect_flow"
MAX_SIZE = 3500  # characters. Browsers drop a cookie of more than 4096 bytes
_STARTED, _ENDED = "_oauth_connect_started", "_oauth_connect_ended"  # attributes of the request


def note(request: HttpRequest, flow: PendingAuthorization) -> None:
    """Let ``add_to`` put this flow into the cookie. A session in a cookie has no key to seal it for."""
    if not is_in_cookie(request):
        setattr(request, _STARTED, flow)


def add_to(response: HttpResponseBase, request: HttpRequest) -> None:
    """Set the cookie if this request has started a flow. Browsers send it to the callback only."""
    flow: PendingAuthorization | None = getattr(request, _STARTED, None)
    sealed = crypto.seal(asdict(flow), _binding(request, flow.state)) if flow else ""
    if not flow or len(sealed) > MAX_SIZE:
        return
    redirect_uri = urlsplit(flow.redirect_uri)
    response.set_cookie(
        NAME,
        sealed,
        max_age=LIFETIME,
        path=redirect_uri.path,
        domain=settings.SESSION_COOKIE_DOMAIN,
        secure=redirect_uri.scheme == "https",
        httponly=True,
        samesite="Lax",
    )


def find(request: HttpRequest, state: str) -> PendingAuthorization | None:
    """Return the flow of the cookie if it has this state, and this session started it."""
    sealed = request.COOKIES.get(NAME, "")
    if not sealed or not request.session.session_key:
        return None
    try:
        return PendingAuthorization(**crypto.unseal(sealed, _binding(request, state)))
    except (KeyUnavailable, TypeError):  # TypeError: another version of this package set it
        return None


def note_end(request: HttpRequest, flow: PendingAuthorization) -> None:
    """Let ``remove_from`` delete the cookie if it has this flow, and not a newer one of another tab."""
    if find(request, flow.state) is not None:
        setattr(request, _ENDED, flow)


def remove_from(response: HttpResponseBase, request: HttpRequest) -> None:
    """Delete the cookie if this request has ended its flow."""
    flow: PendingAuthorization | None = getattr(request, _ENDED, None)
    if flow is not None:
        path = urlsplit(flow.redirect_uri).path
        response.delete_cookie(NAME, path=path, domain=settings.SESSION_COOKIE_DOMAIN, samesite="Lax")


def _binding(request: HttpRequest, state: str) -> crypto.Binding:
    return ("cookie", NAME, f"{request.session.session_key}/{name_of(state)}")
