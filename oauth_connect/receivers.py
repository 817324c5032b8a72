"""What is deleted without being disconnected first: a row, or its owner with all rows."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db.models.signals import pre_delete

from oauth_connect.models import Connection
from oauth_connect.models.lifecycle import disconnect


def connect() -> None:
    """Listen to deletions of connections and of a site's proxies of them; of nothing else.

    A receiver for all models would make every deletion of the site load its rows first.
    """
    for model in apps.get_models():
        if model._meta.concrete_model is Connection:
            pre_delete.connect(_keep_token, sender=model, dispatch_uid="oauth_connect.keep_token")


def _keep_token(instance: Connection, using: str, **kwargs: Any) -> None:
    disconnect.queue_revocation_of_deleted(instance, using)
