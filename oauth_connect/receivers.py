"""Follows what Django does to rows by itself: deletes them with their owner, and loads them from fixtures."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db.models.signals import pre_delete, pre_save

from oauth_connect.models import Connection
from oauth_connect.models.lifecycle import disconnect, ownership


def connect() -> None:
    """Receive the signals of connections and of a site's proxies of them, and of no other model.

    With a receiver for all models, Django would load the rows of every deletion of the site.
    """
    for model in apps.get_models():
        if model._meta.concrete_model is Connection:  # Django sends a child's deletion for Connection too
            pre_delete.connect(_queue_revocation, sender=model, dispatch_uid="oauth_connect.keep_token")
            pre_save.connect(_prepare_raw, sender=model, dispatch_uid="oauth_connect.prepare_raw")


def _queue_revocation(instance: Connection, using: str, **kwargs: Any) -> None:
    disconnect.queue_revocation_of_deleted(instance, using)


def _prepare_raw(instance: Connection, raw: bool, using: str, **kwargs: Any) -> None:
    if raw:
        ownership.prepare_raw(instance, using)
