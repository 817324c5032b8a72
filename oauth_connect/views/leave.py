"""Sends a browser from a form of this site to the provider."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse


def leave(request: HttpRequest, url: str, context: dict[str, Any]) -> HttpResponse:
    """Return the response to a form's POST that leads to another site.

    A browser gets a page that leaves by the header Refresh, and has a link. Chromium applies the policy
    ``form-action`` to a redirect after a form's POST, and would stay (W3C webappsec-csp, issue 8). A client
    that does not accept text/html by name gets a redirect.
    """
    redirect = HttpResponseRedirect(url)  # refuses the schemes that are not of the web
    if not _names_html(request):
        return redirect
    page = TemplateResponse(request, "oauth_connect/leave.html", {**context, "url": redirect.url})
    # A header: it also works where the site replaces the template. Browsers replace this page in the history.
    page.headers["Refresh"] = f"0;url={redirect.url}"
    return page


def _names_html(request: HttpRequest) -> bool:
    return any((one.main_type, one.sub_type) == ("text", "html") for one in request.accepted_types)
