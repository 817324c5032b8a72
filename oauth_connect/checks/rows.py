"""Checks of stored rows: tokens that no key opens, owners that do not agree, and copies in other tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import islice
from typing import Any

from django.apps import apps
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, router
from django.db.models import Model

from oauth_connect import crypto
from oauth_connect.models import Connection, PendingRevocation, RegisteredClient
from oauth_connect.models.fields import SealedField
from oauth_connect.models.lifecycle import ownership
from oauth_connect.models.row import ConnectionRow
from oauth_connect.stores.columns import bindings
from oauth_connect.tracebacks import without_locals

SAMPLE_SIZE = 10  # rows that check_stored_tokens unseals


@register(Tags.database)
@without_locals
def check_stored_tokens(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
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


def _sealed_rows(alias: str) -> Iterable[Connection]:
    if not _has_table(alias):
        return ()
    rows = Connection._base_manager.using(alias).filter(sealed_token__isnull=False)
    return rows.only("pk", "provider", "sealed_token").order_by("pk")[:SAMPLE_SIZE]


@register(Tags.database)
@without_locals
def check_owners(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
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


@register(Tags.security)
@without_locals
def check_copies(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
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
