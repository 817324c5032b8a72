"""Answers requests whose view lets an error of a call pass, wherever in the site that view is."""

from __future__ import annotations

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from oauth_connect.views.call_errors import answer_to


class ConnectionErrorsMiddleware(MiddlewareMixin):
    """Answers the errors that ``connection_required`` answers, in the same way, for all views of a site.

    It catches no error of a body that is being streamed, because its head was sent before.
    """

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        return answer_to(request, exception)
