"""The redirect URIs to register at the providers, computed without a request."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.urls import NoReverseMatch, reverse

from oauth_connect.conf import base_url_problem, conf


@dataclass(frozen=True, slots=True)
class RedirectURI:
    """A redirect URI, or the reason why it is not known.

    ``problem`` names the missing part and says what to do. ``note`` says that nothing is wrong, but that the
    URI depends on the request.
    """

    uri: str = ""
    problem: str = ""
    note: str = ""


def redirect_uri(provider: str) -> RedirectURI:
    """Return the URI to register at a provider, built from BASE_URL and the URLconf."""
    path, problem = _path(provider)
    if problem:
        return RedirectURI(problem=problem)
    base = conf.base_url
    if callable(base):
        return RedirectURI(
            problem=f"BASE_URL is a callable. Register {path} under each origin that it returns."
        )
    if base is None and settings.DEBUG:
        return RedirectURI(note=f"under DEBUG the host of the request, with the path {path}")
    if base is None:
        return RedirectURI(problem=f'Set OAUTH_CONNECT["BASE_URL"]. The path is {path}.')
    if problem := base_url_problem(base):
        return RedirectURI(problem=f'OAUTH_CONNECT["BASE_URL"] {problem}')
    return RedirectURI(base.rstrip("/") + path)


def _path(provider: str) -> tuple[str, str]:
    try:
        reverse("oauth_connect:connections")
    except NoReverseMatch:
        return "", 'Add path("connections/", include("oauth_connect.urls")) to your URLconf.'
    try:
        return reverse("oauth_connect:callback", kwargs={"provider": provider}), ""
    except NoReverseMatch:
        return "", "A provider's name may only have letters, digits, hyphens and underscores. Rename it."
