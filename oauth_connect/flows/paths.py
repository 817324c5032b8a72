"""The path that starts a flow, and checks of the path that follows it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

from django.conf import settings
from django.conf.urls.i18n import is_language_prefix_patterns_used
from django.core import signing
from django.http import HttpRequest
from django.urls import NoReverseMatch, get_urlconf, reverse
from django.utils import translation
from django.utils.encoding import iri_to_uri
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import get_supported_language_variant

from oauth_connect.conf import conf
from oauth_connect.models.owner import Owner
from oauth_connect.protocol.grants.callback import BASIC_PARAMETERS, NEVER_IN_A_URL
from oauth_connect.protocol.provider import scope_tuple
from oauth_connect.protocol.quirks import is_code_parameter
from oauth_connect.tracebacks import without_locals

SALT = "oauth_connect.scopes"
MAX_AGE = timedelta(days=30)  # of signed scopes: a link in a mail must not ask for them for ever
RECORD_LENGTH = 32  # hexadecimal digits
MAX_PATH = 1500  # characters, because the session may be stored in a cookie
# OpenID Connect adds session_state, and Shopify hmac.
RESPONSE_PARAMETERS = BASIC_PARAMETERS | NEVER_IN_A_URL | {"session_state", "hmac"}
CONNECT_PARAMETERS = frozenset({"next", "scopes", "connection"})
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\\ud800-\udfff]|^//")


@without_locals
def connect_path(
    provider: str,
    *,
    next_path: str = "",
    scopes: Iterable[str] = (),
    connection: object = None,
    owner: Any = None,
    variables: Mapping[str, str] | None = None,
    mount: str | None = None,
) -> str:
    """Return the path of the page that connects an account; "" where the site does not include our URLs.

    Additional scopes are signed, so that a visitor cannot request more by changing the URL. They are valid
    for 30 days, and only for ``owner``: a user, an Owner or its key. None: for each owner. ``variables`` fill
    the form for the shop, tenant or instance in. ``mount``: as in ``callback_path``.
    """
    query = {name: value for name, value in (variables or {}).items() if name not in CONNECT_PARAMETERS}
    if next_path:
        query["next"] = next_path
    if scopes := sorted(set(scope_tuple(scopes))):
        query["scopes"] = signing.dumps([provider, _key(owner), scopes], salt=SALT)
    if connection:
        query["connection"] = str(connection)
    try:
        path = reverse("oauth_connect:connect", kwargs={"provider": provider}, current_app=mount)
    except NoReverseMatch:
        return ""
    return f"{path}?{urlencode(query)}" if query else path


@without_locals
def choose_path(provider: str) -> str:
    """Return the path of the page "Which account?"; "" where the site does not include our URLs."""
    try:
        return reverse("oauth_connect:choose", kwargs={"provider": provider})
    except NoReverseMatch:
        return ""


@without_locals
def site_path(connection: object, *, next_path: str = "", mount: str | None = None) -> str:
    """Return the path of the page that chooses a connection's site; "" where the site lacks our URLs."""
    try:
        path = reverse("oauth_connect:site", kwargs={"pk": connection}, current_app=mount)
    except NoReverseMatch:
        return ""
    return f"{path}?{urlencode({'next': next_path})}" if next_path else path


def record_of(provider: str, owner: str) -> str:
    """Return the record in an owner's redirect URI; "" where all owners share one (``RECORD_REDIRECTS``).

    It depends on names alone: the URI is registered at the provider, and must outlive a change of KEYS.
    """
    if provider not in conf.record_redirects:
        return ""
    return hashlib.sha256(json.dumps([provider, owner]).encode()).hexdigest()[:RECORD_LENGTH]


def callback_path(provider: str, record: str = "", *, mount: str | None = None) -> str:
    """Return the path of the callback, the same for visitors of every language. Raises NoReverseMatch.

    Providers compare redirect URIs exactly (RFC 9700 section 2.1). ``mount``: the instance namespace under
    which the site includes our URLs, if it includes them more than once.
    """
    kwargs = {"provider": provider, **({"record": record} if record else {})}
    with translation.override(_language_of_urls()):
        return reverse("oauth_connect:callback", kwargs=kwargs, current_app=mount)


def _language_of_urls() -> str:
    """Return the language of the site in its URLs.

    LANGUAGE_CODE need not be one of LANGUAGES: Django's default, "en-us", is not, and LocaleMiddleware serves
    its pages below /en/. Without it, or without a prefix of the site's own language, LANGUAGE_CODE counts.
    """
    code: str = settings.LANGUAGE_CODE
    _, has_prefix = is_language_prefix_patterns_used(get_urlconf() or settings.ROOT_URLCONF)
    if not has_prefix or not any("LocaleMiddleware" in path for path in settings.MIDDLEWARE):
        return code
    try:
        return get_supported_language_variant(code)
    except LookupError:
        return code


def mount_of(request: HttpRequest) -> str | None:
    """Return the instance namespace of the page that is requested, or None outside of our URLs."""
    match = getattr(request, "resolver_match", None)
    return match.namespace if match else None


def signed_scopes(value: str, provider: str, owner: Owner) -> list[str]:
    """Return the scopes that ``connect_path`` signed for these two; an empty list for other values.

    Raises SignatureExpired where the link is older than 30 days.
    """
    try:
        for_provider, for_owner, scopes = signing.loads(value, salt=SALT, max_age=MAX_AGE)
    except signing.SignatureExpired:
        raise
    except (signing.BadSignature, ValueError, TypeError):
        return []
    return list(scopes) if for_provider == provider and for_owner in ("", owner.key) else []


def _key(owner: Any) -> str:
    return "" if owner is None else Owner.of(owner).key


def without_response(query: str) -> str:
    """Return a query without the parameters of an authorization response, which no other URL may repeat."""
    pairs = parse_qsl(query, keep_blank_values=True)
    return urlencode([(name, value) for name, value in pairs if not _is_of_response(name)])


def _is_of_response(name: str) -> bool:
    return name in RESPONSE_PARAMETERS or is_code_parameter(name)


def local_path(candidate: str) -> str:
    """Return a path on this site, encoded; "" if it may lead to another site (RFC 9700 section 4.11)."""
    if not candidate.startswith("/") or _FORBIDDEN.search(candidate):
        return ""
    if not url_has_allowed_host_and_scheme(candidate, allowed_hosts=None):
        return ""
    path = iri_to_uri(candidate)
    return path if len(path) <= MAX_PATH else ""
