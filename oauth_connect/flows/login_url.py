"""Finds out whether ``LOGIN_URL`` leads to a page of this site. Our pages send signed-out visitors there."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.conf.urls.i18n import is_language_prefix_patterns_used
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, is_valid_path
from django.utils import translation

from oauth_connect.tracebacks import without_locals

HINT = 'Set it to the name or the path of your login page, for instance LOGIN_URL = "admin:login".'


@without_locals
def login_url_problem() -> str:
    """Return why ``LOGIN_URL`` leads nowhere, or an empty string. Another site's is not checked."""
    with translation.override(settings.LANGUAGE_CODE):
        try:
            url = resolve_url(str(settings.LOGIN_URL))
        except NoReverseMatch as error:
            return f"LOGIN_URL is not the name of a URL of this site: {str(error).rstrip('.')}."
        parts = urlsplit(url)
        if parts.scheme or parts.netloc or url.startswith(("./", "../")):
            return ""
        if not url.startswith("/"):
            return f"LOGIN_URL = {url!r} is neither the name of a URL nor a path that begins with a slash."
        if any(map(is_valid_path, _readings(parts.path))):
            return ""
        return f"LOGIN_URL = {url!r}: no URLconf of this site has this path."


def _readings(path: str) -> list[str]:
    """Return the paths that Django tries: below the script's name, with a slash, with a language."""
    prefix = (settings.FORCE_SCRIPT_NAME or "").rstrip("/")
    found = [path.removeprefix(prefix)]
    if settings.APPEND_SLASH and not path.endswith("/"):
        found.append(f"{found[0]}/")
    has_languages, _ = is_language_prefix_patterns_used(settings.ROOT_URLCONF)
    return [*found, *(f"/{translation.get_language()}{one}" for one in found if has_languages)]
