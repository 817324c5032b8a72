"""The path that starts a flow, and checks of the path that follows it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlencode

from django.core import signing
from django.urls import NoReverseMatch, reverse
from django.utils.encoding import iri_to_uri
from django.utils.http import url_has_allowed_host_and_scheme

from oauth_connect.tracebacks import without_locals

SALT = "oauth_connect.scopes"
MAX_PATH = 1500  # characters, because the session may be stored in a cookie
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\\ud800-\udfff]|^//")


@without_locals
def connect_path(
    provider: str, *, next_path: str = "", scopes: Iterable[str] = (), connection: object = None
) -> str:
    """Return the path of the page that connects an account; "" where the site does not include our URLs.

    Additional scopes are signed, so that a visitor cannot request more by changing the URL.
    """
    query = {}
    if next_path:
        query["next"] = next_path
    if scopes := sorted(set(scopes)):
        query["scopes"] = signing.dumps([provider, scopes], salt=SALT)
    if connection:
        query["connection"] = str(connection)
    try:
        path = reverse("oauth_connect:connect", kwargs={"provider": provider})
    except NoReverseMatch:
        return ""
    return f"{path}?{urlencode(query)}" if query else path


def signed_scopes(value: str, provider: str) -> list[str]:
    """Return the scopes that ``connect_path`` signed for this provider; an empty list for other values."""
    try:
        for_provider, scopes = signing.loads(value, salt=SALT)
    except (signing.BadSignature, ValueError, TypeError):
        return []
    return list(scopes) if for_provider == provider else []


def local_path(candidate: str) -> str:
    """Return a path on this site, encoded; "" if it may lead to another site (RFC 9700 section 4.11)."""
    if not candidate.startswith("/") or _FORBIDDEN.search(candidate):
        return ""
    if not url_has_allowed_host_and_scheme(candidate, allowed_hosts=None):
        return ""
    path = iri_to_uri(candidate)
    return path if len(path) <= MAX_PATH else ""
