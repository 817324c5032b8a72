"""Checks of how the site uses its databases: time zones, transactions, schemas of tenants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from oauth_connect.conf import conf
from oauth_connect.tracebacks import without_locals

TENANT_ENGINES = ("django_tenants.", "tenant_schemas.")


@register()
@without_locals
def check_time_zone(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    if not settings.USE_TZ:
        yield Error(
            "USE_TZ = False makes the database refuse a token's expiry, or lose its time zone.",
            hint="Set USE_TZ = True, Django's default. TIME_ZONE may keep its value.",
            id="oauth_connect.E021",
        )


@register()
@without_locals
def check_atomic_requests(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    for alias, entry in settings.DATABASES.items():
        if entry.get("ATOMIC_REQUESTS") and entry["ENGINE"].endswith("sqlite3"):
            yield checks.Warning(
                f"ATOMIC_REQUESTS on SQLite ({alias}): during HTTP, a refresh holds the only write lock.",
                hint="Turn it off and use atomic() only where you need it, or use PostgreSQL.",
                id="oauth_connect.W010",
            )


@register(deploy=True)
@without_locals
def check_sqlite_transactions(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    for alias, entry in settings.DATABASES.items():
        mode = str((entry.get("OPTIONS") or {}).get("transaction_mode") or "DEFERRED").upper()
        if entry["ENGINE"].endswith("sqlite3") and mode == "DEFERRED":
            yield checks.Warning(
                f"Transactions on SQLite ({alias}) begin as readers. If another connection writes meanwhile, "
                "a refresh in such a transaction fails with ConnectionLocked.",
                hint='Set "transaction_mode": "IMMEDIATE" in OPTIONS, or use PostgreSQL.',
                id="oauth_connect.W020",
            )


@register()
@without_locals
def check_tenants(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
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
