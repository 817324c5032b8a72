"""The redirect URIs to register at the providers, computed without a request."""

from __future__ import annotations

from dataclasses import dataclass

from django.urls import NoReverseMatch, get_resolver, reverse

from oauth_connect.conf import conf
from oauth_connect.flows.paths import callback_path
from oauth_connect.site_origin import base_url_problem, may_use_request_host


@dataclass(frozen=True, slots=True)
class RedirectURI:
    """A redirect URI, or the reason why it is not known.

    ``problem`` names the missing part and says what to do. ``note`` says that nothing is wrong, but that the
    URI depends on the request.
    """

    uri: str = ""
    problem: str = ""
    note: str = ""


def mounts() -> list[str | None]:
    """Return the instance namespaces under which the site includes our URLs, the default one first."""
    found = get_resolver().app_dict.get("oauth_connect", [])
    return list(dict.fromkeys(found)) or [None]


def redirect_uri(provider: str, mount: str | None = None) -> RedirectURI:
    """Return the URI to register at a provider, built from BASE_URL and the URLconf.

    ``mount``: an instance namespace, by default the one that ``reverse`` chooses.
    """
    path, problem = _path(provider, mount)
    if problem:
        return RedirectURI(problem=problem)
    base = conf.base_url
    if callable(base):
        return RedirectURI(
            problem=f"BASE_URL is a callable. Register {path} under each origin that it returns."
        )
    if base is None and may_use_request_host():
        return RedirectURI(note=f"under DEBUG the host of the request, with the path {path}")
    if base is None:
        return RedirectURI(problem=f'Set OAUTH_CONNECT["BASE_URL"]. The path is {path}.')
    if problem := base_url_problem(base):
        return RedirectURI(problem=f'OAUTH_CONNECT["BASE_URL"] {problem}')
    uri = base.rstrip("/") + path
    if provider in conf.record_redirects:
        return RedirectURI(
            note=f"one for each owner: {uri}RECORD/ (flows.redirect_uri(request, {provider!r}))"
        )
    return RedirectURI(uri)


def _path(provider: str, mount: str | None) -> tuple[str, str]:
    try:
        reverse("oauth_connect:connections")
    except NoReverseMatch:
        return "", 'Add path("connections/", include("oauth_connect.urls")) to your URLconf.'
    try:
        return callback_path(provider, mount=mount), ""
    except NoReverseMatch:
        return "", "A provider's name may only have letters, digits, hyphens and underscores. Rename it."
