"""Checks of what the pages need of the site: their URLs, a login page, sessions and users."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register
from django.template import TemplateDoesNotExist, TemplateSyntaxError
from django.template.loader import get_template
from django.urls import NoReverseMatch, URLResolver, get_resolver, reverse

from oauth_connect.flows.login_url import HINT as LOGIN_URL_HINT
from oauth_connect.flows.login_url import login_url_problem
from oauth_connect.tracebacks import without_locals

DATABASE_SESSIONS = ("django.contrib.sessions.backends.db", "django.contrib.sessions.backends.cached_db")
CACHE_SESSIONS = "django.contrib.sessions.backends.cache"
PAGE = "oauth_connect/connections.html"  # a template that each site with our pages has
LOCAL_CACHES = ("locmem.LocMemCache", "dummy.DummyCache")


@register()
@without_locals
def check_urls(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    if not getattr(settings, "ROOT_URLCONF", None):
        return
    try:
        reverse("oauth_connect:connections")
    except NoReverseMatch:
        yield _urls_not_found(next(_outer_namespaces(get_resolver()), ""))
        return
    if not _finds(PAGE):
        yield checks.Warning(
            "The templates of oauth_connect are not found. Its pages fail.",
            hint="Add an entry to TEMPLATES with Django's own engine (DjangoTemplates) and APP_DIRS = True. "
            "An engine such as Jinja2 may stand before it.",
            id="oauth_connect.W044",
        )
    if problem := login_url_problem():
        yield checks.Warning(
            f"{problem} Visitors who are not signed in get an error there.",
            hint=LOGIN_URL_HINT,
            id="oauth_connect.W041",
        )


def _finds(template: str) -> bool:
    try:
        get_template(template)
    except TemplateDoesNotExist:
        return False
    except TemplateSyntaxError:  # of the site's own template; its page shows the mistake
        return True
    return True


def _urls_not_found(namespace: str) -> CheckMessage:
    if namespace:
        return checks.Warning(
            f"The URLs of oauth_connect are included below the namespace {namespace!r}, where nothing finds "
            "them. Users cannot connect an account.",
            hint='Include "oauth_connect.urls" outside of URLconfs that have an app_name or a namespace.',
            id="oauth_connect.W007",
        )
    return checks.Warning(
        "The URLs of oauth_connect are not included. Users cannot connect an account.",
        hint='Add path("connections/", include("oauth_connect.urls")) to your URLconf.',
        id="oauth_connect.W007",
    )


def _outer_namespaces(resolver: URLResolver) -> Iterator[str]:
    """Yield the namespaces below which the app's URLs are included, such as ``site`` or ``site:inner``."""
    for part in resolver.url_patterns:
        if not isinstance(part, URLResolver):
            continue
        if part.app_name == "oauth_connect":
            yield ""
        for inner in _outer_namespaces(part):
            yield ":".join(filter(None, (part.namespace, inner)))


@register()
@without_locals
def check_sessions(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    if getattr(settings, "SESSION_COOKIE_SAMESITE", "Lax") == "Strict":
        yield Error(
            "SESSION_COOKIE_SAMESITE is 'Strict'. Users that a provider sends back arrive without a session.",
            hint="Set it to 'Lax', Django's default.",
            id="oauth_connect.E008",
        )
    if not apps.is_installed("django.contrib.auth"):
        yield Error(
            "oauth_connect needs django.contrib.auth.",
            hint="Add it to INSTALLED_APPS, together with django.contrib.contenttypes.",
            id="oauth_connect.E009",
        )


@register()
@without_locals
def check_session_engine(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    engine = settings.SESSION_ENGINE
    try:
        import_module(engine).SessionStore  # noqa: B018
    except (ImportError, AttributeError):
        yield Error(
            f"SESSION_ENGINE = {engine!r} is not a session engine.",
            hint="Authorization flows are stored in the session. See Django's documentation of sessions.",
            id="oauth_connect.E016",
        )
        return
    if not any("SessionMiddleware" in path for path in settings.MIDDLEWARE):
        yield checks.Warning(
            "There is no session middleware. Users cannot connect an account.",
            hint='Add "django.contrib.sessions.middleware.SessionMiddleware" to MIDDLEWARE.',
            id="oauth_connect.W017",
        )
    # The site's own middleware may set request.user too.
    elif not any("auth" in path.removeprefix("oauth_connect.").casefold() for path in settings.MIDDLEWARE):
        yield checks.Warning(
            "There is no authentication middleware. Requests have no user, and the pages fail.",
            hint='Add "django.contrib.auth.middleware.AuthenticationMiddleware" to MIDDLEWARE.',
            id="oauth_connect.W045",
        )
    if engine in DATABASE_SESSIONS and not apps.is_installed("django.contrib.sessions"):
        yield Error(
            "Sessions are stored in the database, but django.contrib.sessions is not installed.",
            hint="Add it to INSTALLED_APPS and run migrate.",
            id="oauth_connect.E018",
        )
    cache = settings.CACHES.get(settings.SESSION_CACHE_ALIAS, {}).get("BACKEND", "")
    if engine == CACHE_SESSIONS and cache.endswith(LOCAL_CACHES):
        yield checks.Warning(
            "Sessions are stored in the memory of one process. Other processes do not find its flows.",
            hint="Use a cache that all processes share, or store sessions in the database.",
            id="oauth_connect.W019",
        )
