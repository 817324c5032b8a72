"""Stricter versions of some of the toolkit's endpoints."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from oauth2_provider import views
from oauth2_provider.models import Application
from oauth2_provider.settings import oauth2_settings


class AuthorizationView(views.AuthorizationView):
    """Adds `iss` to error responses (RFC 9207 section 2), which the toolkit leaves out."""

    def redirect(self, redirect_to: str, application: Application | None) -> HttpResponse:
        query = urlsplit(redirect_to).query
        if "error=" in query and "iss=" not in query:
            redirect_to += "&" + urlencode({"iss": oauth2_settings.OIDC_ISS_ENDPOINT})
        return super().redirect(redirect_to, application)


class TokenView(views.TokenView):
    """Handles one token request after another.

    The toolkit lets two parallel uses of one refresh token both succeed. Here each request is a transaction,
    and SQLite has one writer. So the second request finds the token spent, and reuse protection works.
    """

    @method_decorator(transaction.atomic)
    def post(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        return super().post(request, *args, **kwargs)
