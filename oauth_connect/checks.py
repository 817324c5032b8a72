"""System checks. Each finds one mistake in the settings, and has an id and a hint.

docs/checks.md has a row for each id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig, apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, router
from django.db.models import Model
from django.template import TemplateDoesNotExist, TemplateSyntaxError
from django.template.loader import get_template
from django.urls import NoReverseMatch, URLResolver, get_resolver, reverse

from oauth_connect import crypto
from oauth_connect.conf import KEY_HINT, KNOWN, RESERVED, conf, names_a_key
from oauth_connect.errors import InvalidProvider
from oauth_connect.flows.login_url import HINT as LOGIN_URL_HINT
from oauth_connect.flows.login_url import login_url_problem
from oauth_connect.models import Connection, PendingRevocation, RegisteredClient
from oauth_connect.models.fields import SealedField
from oauth_connect.models.lifecycle import ownership
from oauth_connect.models.row import ConnectionRow
from oauth_connect.protocol.definition import suggestion
from oauth_connect.protocol.net.destination import allows, origin_of
from oauth_connect.protocol.provider import Provider
from oauth_connect.site_origin import base_url_problem, in_test_environment, may_use_request_host
from oauth_connect.stores.columns import bindings
from oauth_connect.tracebacks import without_locals

Apps = Sequence[AppConfig] | None
DATABASE_SESSIONS = ("django.contrib.sessions.backends.db", "django.contrib.sessions.backends.cached_db")
CACHE_SESSIONS = "django.contrib.sessions.backends.cache"
LOCAL_CACHES = ("locmem.LocMemCache", "dummy.DummyCache")
MIX_UP_HINT = (
    "One server could get a code of another. Add the provider to RECORD_REDIRECTS, and register the redirect "
    "URI of each owner."
)
TENANT_ENGINES = ("django_tenants.", "tenant_schemas.")
PAGE = "oauth_connect/connections.html"  # a template that each site with our pages has
SAMPLE_SIZE = 10  # rows that check_stored_tokens unseals


@register(Tags.security)
@without_locals
def check_keys(app_configs: Apps, **kwargs: Any) -> Iterator[CheckMessage]:
    try:
        keys = conf.keys
    except ImproperlyConfigured as error:
        if _tests_without_keys():
            return
        hint = f"{KEY_HINT} If connections are stored already, use the key that sealed them."
        yield Error(str(error).removesuffix(KEY_HINT).strip(), hint=hint, id="oauth_connect.E001")
        return
    if any(key.decode() == settings.SECRET_KEY for key in keys):
        yield Error(
            'OAUTH_CONNECT["KEYS"] contains SECRET_KEY.',
            hint=f"Rotating SECRET_KEY would make every token unreadable. {KEY_HINT}",
            id="oauth_connect.E002",
        )


def _tests_without_keys() -> bool:
    """Return whether this is a test run without any key. A fake provider needs none (docs/test-kit.md)."""
    try:
        return in_test_environment() and not names_a_key(conf.mapping)
    except ImproperlyConfigured:
        return False


@register()
@without_locals
def check_base_url(app_configs: Apps, **kwargs: Any) -> Iterator[CheckMessage]:
    try:
        url = conf.base_url
    except ImproperlyConfigured:  # check_settings reports it
        return
    if callable(url) or (url is None and may_use_request_host()):
        return
    problem = "is not set." if url is None else base_url_problem(url)
    if problem:
        yield Error(
            f'OAUTH_CONNECT["BASE_URL"] {problem}',
            hint='Set the site\'s public origin, for instance "https://app.example".',
            id="oauth_connect.E003",
        )


@register()
@without_locals
def check_settings(app_configs: Apps, **kwargs: Any) -> Iterator[CheckMessage]:
    try:
        unknown = sorted(set(conf.mapping) - KNOWN, key=str)
        _ = (conf.refresh_leeway, conf.http_timeout, conf.api_timeout, conf.owner, conf.provider_loader)
        _ = (conf.discovery_private_hosts, conf.discovery_cache, conf.history_days, conf.revoked_days)
        _ = conf.record_redirects
        _ = conf.connection_state
    except ImproperlyConfigured as error:
        yield Error(str(error), hint="See docs/settings.md.", id="oauth_connect.E004")
        return
    for key in unknown:
        yield Error(
            f'OAUTH_CONNECT["{key}"] is not a setting{suggestion(str(key), KNOWN) or "."}',
            hint=f"Settings: {', '.join(sorted(KNOWN))}.",
            id="oauth_connect.E004",
        )


@register()
@without_locals
def check_providers(app_configs: Apps, **kwargs: Any) -> Iterator[CheckMessage]:
    try:
        _ = conf.provider_loader
    except ImproperlyConfigured:
        return  # E004 reports it
    try:
        slugs = conf.provider_slugs
    except ImproperlyConfigured as error:
        yield Error(str(error), hint="See docs/settings.md.", id="oauth_connect.E005")
        return
    if RESERVED in slugs:
        yield Error(
            f"A provider has the name {RESERVED!r}, and its pages would have the paths of the JSON API.",
            hint=f'Give it another name, and keep "preset" if it has one: '
            f'"my-{RESERVED}": {{"preset": "...", ...}}. Register the redirect URI of the new name.',
            id="oauth_connect.E043",
        )
    for slug in slugs:
        try:
            provider = conf.declared_provider(slug)
            provider.check_hooks()
            conf.check_other_entries(provider)
            if problem := conf.issuer_problem(slug):
                raise ImproperlyConfigured(f'OAUTH_CONNECT["PROVIDERS"]: {slug}.issuer: {problem}')
        except (ImproperlyConfigured, InvalidProvider) as error:
            if _lacks_environment(slug):
                continue
            yield Error(
                str(error),
                hint="The message begins with the path of the wrong field.",
                id="oauth_connect.E005",
            )
            continue
        yield from _provider_messages(provider)


def _lacks_environment(slug: str) -> bool:
    """Return whether this is a test run, and an entry has an empty value.

    Its environment variables are often missing there, and a fake provider needs none of them.
    """
    entry = conf.mapping["PROVIDERS"][slug]
    values = entry.values() if isinstance(entry, Mapping) else ()
    return in_test_environment() and any(value in ("", None) for value in values)


def _provider_messages(provider: Provider) -> Iterator[CheckMessage]:
    if provider.api_base_url and provider.api_hosts and not provider.variables:
        base = origin_of(provider.api_base_url)
        if not allows(provider.token_hosts(), base):
            yield checks.Warning(
                f"The provider {provider.slug!r} does not list the host of its api_base_url in api_hosts.",
                hint="Add the host to api_hosts. Until then, calls with relative URLs are refused.",
                id="oauth_connect.W013",
            )
    if not provider.api_base_url and not provider.api_hosts:
        yield checks.Warning(
            f"The provider {provider.slug!r} names no API. Every call through its connections is refused.",
            hint="Set api_base_url or api_hosts.",
            id="oauth_connect.W006",
        )
    for name in _missing_variables(provider):
        yield checks.Warning(
            f"The provider {provider.slug!r} has no value of its variable {name!r}. Users cannot connect.",
            hint=f'Add "variables": {{"{name}": "..."}} to its entry.',
            id="oauth_connect.W042",
        )


def _missing_variables(provider: Provider) -> Iterator[str]:
    """Yield the variables that only the settings can give a value, and that have none."""
    for name, variable in provider.variables.items():
        if variable.source == "config" and variable.value_of(variable.default) is None:
            yield name


@register()
@without_locals
def check_urls(app_configs: Apps, **kwargs: Any) -> Iterator[CheckMessage]:
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
def check_sessions(app_configs: Apps, **kwargs: Any) -> Iterator[CheckMessage]:
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
def check_session_engine(app_configs: Apps, **kwargs: Any) -> Iterator[CheckMessage]:
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
    elif not any("auth" in path.casefold() for path in settings.MIDDLEWARE):
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


@register()
@without_locals
def check_time_zone(app_configs: Apps, **kwargs: Any) -> Iterator[CheckMessage]:
    if not settings.USE_TZ:
        yield Error(
            "USE_TZ = False makes the database refuse a token's expiry, or lose its time zone.",
            hint="Set USE_TZ = True, Django's default. TIME_ZONE may keep its value.",
            id="oauth_connect.E021",
        )


@register()
@without_locals
def check_atomic_requests(app_configs: Apps, **kwargs: Any) -> Iterator[CheckMessage]:
    for alias, entry in settings.DATABASES.items():
        if entry.get("ATOMIC_REQUESTS") and entry["ENGINE"].endswith("sqlite3"):
            yield checks.Warning(
                f"ATOMIC_REQUESTS on SQLite ({alias}): during HTTP, a refresh holds the only write lock.",
                hint="Turn it off and use atomic() only where you need it, or use PostgreSQL.",
                id="oauth_connect.W010",
            )


@register()
@without_locals
def check_tenants(app_configs: Apps, **kwargs: Any) -> Iterator[CheckMessage]:
    try:
        is_carried = conf.connection_state is not None
    except ImproperlyConfigured:  # check_settings reports it
        return
    for alias, entry in settings.DATABASES.items():
        if entry["ENGINE"].startswith(TENANT_ENGINES) and not is_carried:
            yield checks.Warning(
                f"Each tenant has its own schema ({alias}), and this app does not know which one is set.",
                hint='Set OAUTH_CONNECT["CONNECTION_STATE"], as docs/tenants.md shows.',
                id="oauth_connect.W022",
            )


@register(deploy=True)
@without_locals
def check_sqlite_transactions(app_configs: Apps, **kwargs: Any) -> Iterator[CheckMessage]:
    for alias, entry in settings.DATABASES.items():
        mode = str((entry.get("OPTIONS") or {}).get("transaction_mode") or "DEFERRED").upper()
        if entry["ENGINE"].endswith("sqlite3") and mode == "DEFERRED":
            yield checks.Warning(
                f"Transactions on SQLite ({alias}) begin as readers. If another connection writes meanwhile, "
                "a refresh in such a transaction fails with ConnectionLocked.",
                hint='Set "transaction_mode": "IMMEDIATE" in OPTIONS, or use PostgreSQL.',
                id="oauth_connect.W020",
            )


@register(Tags.database)
@without_locals
def check_stored_tokens(app_configs: Apps, **kwargs: Any) -> Iterator[CheckMessage]:
    """Unseal some rows. No other check detects a key ring that lacks their key."""
    for alias in kwargs.get("databases") or ():
        try:
            rows = list(_sealed_rows(alias))
            unreadable = [
                row for row in rows if crypto.key_index(row.sealed_token or "", *bindings(row)) is None
            ]
        except (DatabaseError, ImproperlyConfigured):  # before migrate, or check_keys reports it
            continue
        if unreadable:
            yield Error(
                f"No key unseals the tokens of {len(unreadable)} of {len(rows)} connections ({alias}).",
                hint='Put the key that sealed them back into OAUTH_CONNECT["KEYS"]. If the key is lost, '
                "disconnect those connections; oauth_doctor counts them.",
                id="oauth_connect.E014",
            )


@register(Tags.security)
@without_locals
def check_copies(app_configs: Apps, **kwargs: Any) -> Iterator[CheckMessage]:
    """Find packages that keep copies of sealed tokens, which outlive disconnect and key rotation."""
    for model in _history_models():
        yield _copies(f"The model {model._meta.label} has a copy of the column of a sealed token.")
    for model in _versioned_models():
        yield _copies(f"django-reversion keeps versions of {model._meta.label} with the sealed token.")


def _copies(text: str) -> CheckMessage:
    return checks.Warning(
        text,
        hint="Exclude the columns in oauth_connect.models.PROTOCOL_COLUMNS. See docs/owners.md.",
        id="oauth_connect.W031",
    )


def _history_models() -> Iterator[type[Model]]:
    """Yield the models of a site that have a field of ours, as django-simple-history copies it."""
    for model in apps.get_models(include_auto_created=True):
        own = issubclass(model, ConnectionRow | PendingRevocation | RegisteredClient)
        if not own and any(isinstance(field, SealedField) for field in model._meta.local_fields):
            yield model


def _versioned_models() -> Iterator[type[Model]]:
    if not apps.is_installed("reversion"):
        return
    revisions = import_module("reversion.revisions")
    ours = (model for model in apps.get_models() if issubclass(model, ConnectionRow | PendingRevocation))
    for model in filter(revisions.is_registered, ours):
        if "sealed_token" in revisions._get_options(model).fields:
            yield model


@register(Tags.database)
@without_locals
def check_owners(app_configs: Apps, **kwargs: Any) -> Iterator[CheckMessage]:
    """Find rows whose owner and user do not agree. A warning, because migrate must run with them."""
    for alias in kwargs.get("databases") or ():
        try:
            rows = ownership.mismatched(Connection, alias) if _has_table(alias) else iter(())
            found = list(islice(rows, SAMPLE_SIZE + 1))
        except (DatabaseError, ImproperlyConfigured):  # before migrate, or check_sessions reports it
            continue
        if found:
            number = f"more than {SAMPLE_SIZE}" if len(found) > SAMPLE_SIZE else str(len(found))
            yield checks.Warning(
                f"Owner and user are not the same in connections: {number} ({alias}). They are not used.",
                hint="Run: manage.py oauth_repair_owners",
                id="oauth_connect.W030",
            )


def _has_table(alias: str) -> bool:
    if not router.allow_migrate_model(alias, Connection):
        return False
    # Checked first: inside a transaction, a statement that fails makes all later ones fail.
    return Connection._meta.db_table in connections[alias].introspection.table_names()


def _sealed_rows(alias: str) -> Iterable[Connection]:
    if not _has_table(alias):
        return ()
    rows = Connection._base_manager.using(alias).filter(sealed_token__isnull=False)
    return rows.only("pk", "provider", "sealed_token").order_by("pk")[:SAMPLE_SIZE]


@register(Tags.security, deploy=True)
@without_locals
def check_pkce(app_configs: Apps, **kwargs: Any) -> Iterator[CheckMessage]:
    for provider in _valid_providers():
        if provider.authorize.code_challenge_method == "none":
            yield checks.Warning(
                f"PKCE is off for {provider.slug!r}: {provider.authorize.without_pkce_because}",
                hint="Remove authorize.code_challenge_method when the provider accepts S256.",
                id="oauth_connect.W011",
            )


@register(Tags.security, deploy=True)
@without_locals
def check_iss(app_configs: Apps, **kwargs: Any) -> Iterator[CheckMessage]:
    for provider in _valid_providers():
        if provider.needs_discovery and provider.authorization_response_iss_parameter_supported is False:
            yield checks.Warning(
                f"Authorization responses of {provider.slug!r} are accepted without iss: "
                f"{provider.authorize.without_iss_because}",
                hint="Remove authorization_response_iss_parameter_supported when the provider sends iss.",
                id="oauth_connect.W015",
            )


@register(Tags.security, deploy=True)
@without_locals
def check_mix_up(app_configs: Apps, **kwargs: Any) -> Iterator[CheckMessage]:
    """Find names under which servers of different parties answer (RFC 9700 section 4.4)."""
    try:
        apart, loads = conf.record_redirects, conf.loads_providers
    except ImproperlyConfigured:  # check_settings reports it
        return
    if loads and not apart:
        yield checks.Warning(
            "The providers of PROVIDER_LOADER share one redirect URI for each name.",
            hint=f"{MIX_UP_HINT} If the issuer of each entry declares that it sends iss, silence this check.",
            id="oauth_connect.W040",
        )
    for provider in _valid_providers():
        declares_iss = provider.authorization_response_iss_parameter_supported
        if provider.has_several_servers and not declares_iss and provider.slug not in apart:
            yield checks.Warning(
                f"Users of {provider.slug!r} choose its server, and all servers share one redirect URI.",
                hint=f"{MIX_UP_HINT} Or declare iss (authorization_response_iss_parameter_supported).",
                id="oauth_connect.W040",
            )


@register(Tags.security, deploy=True)
@without_locals
def check_deployed_base_url(app_configs: Apps, **kwargs: Any) -> Iterator[CheckMessage]:
    try:
        url = conf.base_url
    except ImproperlyConfigured:  # check_settings reports it
        return
    if isinstance(url, str) and not base_url_problem(url) and urlsplit(url).scheme == "http":
        yield checks.Warning(
            'OAUTH_CONNECT["BASE_URL"] is http on a loopback address.',
            hint="Providers send authorization codes to this address. Set the site's public https origin.",
            id="oauth_connect.W012",
        )


def _valid_providers() -> Iterator[Provider]:
    try:
        slugs = conf.provider_slugs
    except ImproperlyConfigured:  # check_providers reports it
        return
    for slug in slugs:
        try:
            yield conf.declared_provider(slug)
        except ImproperlyConfigured:
            continue
