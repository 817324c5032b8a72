"""Queues the revocation of tokens whose rows, or whose owner, are deleted without a disconnect."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db.models.signals import pre_delete

from oauth_connect.models import Connection
from oauth_connect.models.lifecycle import disconnect
from oauth_connect.tracebacks import without_locals


def connect() -> None:
    """Receive ``pre_delete`` of connections and of a site's proxies of them, and of no other model.

    With a receiver for all models, Django would load the rows of every deletion of the site.
    """
    for model in apps.get_models():
        if model._meta.concrete_model is Connection:
            pre_delete.connect(_queue_revocation, sender=model, dispatch_uid="oauth_connect.keep_token")


@without_locals
def _queue_revocation(instance: Connection, using: str, **kwargs: Any) -> None:
    disconnect.queue_revocation_of_deleted(instance, using)
