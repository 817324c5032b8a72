"""The toolkit's endpoints, where Codeyard is stricter than they are."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from oauth2_provider import views
from oauth2_provider.models import Application
from oauth2_provider.settings import oauth2_settings


class AuthorizationView(views.AuthorizationView):
    """With `iss` in error responses too (RFC 9207 section 2), which the toolkit leaves out."""

    def redirect(self, redirect_to: str, application: Application | None) -> HttpResponse:
        query = urlsplit(redirect_to).query
        if "error=" in query and "iss=" not in query:
            redirect_to += "&" + urlencode({"iss": oauth2_settings.OIDC_ISS_ENDPOINT})
        return super().redirect(redirect_to, application)


class TokenView(views.TokenView):
    """One token request after another.

    The toolkit lets two simultaneous uses of one refresh token both succeed. As one transaction
    each (SQLite has one writer), the second finds it spent, and reuse protection does its work.
    """

    @method_decorator(transaction.atomic)
    def post(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        return super().post(request, *args, **kwargs)
