"""The site's origin in redirect URIs: what ``BASE_URL`` may be, and when the request's host replaces it."""

from __future__ import annotations

import sys

from django.conf import settings

from oauth_connect.errors import ForbiddenDestination
from oauth_connect.protocol.net.destination import origin_of
from oauth_connect.tracebacks import without_locals

NOT_SET = 'Set OAUTH_CONNECT["BASE_URL"], for instance "https://app.example".'


def may_use_request_host() -> bool:
    """Return whether the request's host may replace a missing ``BASE_URL``: under DEBUG, and in tests."""
    return bool(settings.DEBUG) or in_test_environment()


def in_test_environment() -> bool:
    """Return whether Django's ``setup_test_environment`` is active.

    ``manage.py test`` and pytest-django call it, and set DEBUG to False. No request and no setting can turn
    this on: only a call in this process can.
    """
    utils = sys.modules.get("django.test.utils")  # nothing imports it in production
    return hasattr(getattr(utils, "_TestState", None), "saved_data")


@without_locals
def base_url_problem(url: object) -> str:
    """Return why a URL cannot be BASE_URL, or an empty string. It continues the words "BASE_URL"."""
    if not isinstance(url, str):
        return 'must be a string such as "https://app.example", or a callable that takes the request.'
    if "://" not in url:
        return 'has no scheme. Write the whole origin, for instance "https://app.example".'
    try:
        origin = origin_of(url)
    except ForbiddenDestination as refused:
        return f"is not a URL of a site: {refused}"
    if not origin.is_trustworthy:
        return "must be https. http is allowed for loopback addresses only (RFC 9700 section 2.6)."
    if url.rstrip("/").count("/") > 2 or "?" in url or "#" in url:
        return "must contain scheme and host only. Paths come from your URLconf."
    return ""
