"""The history of connections: append only, never a token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NoReturn

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from oauth_connect.models import pruning


class AppendOnlyError(TypeError):
    """The history is added to, and pruned by its age; nothing else changes it."""

    def __init__(self, how: str) -> None:
        super().__init__(f"{how}: the history is append-only. manage.py oauth_prune removes what is old.")


class ConnectionEventQuerySet(models.QuerySet["ConnectionEvent"]):
    """The history. It can be read, and lose its oldest entries."""

    def prune(self, before: datetime) -> Iterator[int]:
        """Delete the entries from before a moment in batches, and yield how many each time."""
        return pruning.in_batches(self, "created_at", before)

    def update(self, **kwargs: Any) -> NoReturn:
        raise AppendOnlyError("update()")

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_update(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AppendOnlyError("bulk_update()")

    bulk_update.alters_data = True  # type: ignore[attr-defined]

    def delete(self) -> NoReturn:
        raise AppendOnlyError("delete()")

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def bulk_create(
        self, objs: Iterable[ConnectionEvent], *args: Any, update_conflicts: bool = False, **options: Any
    ) -> list[ConnectionEvent]:
        if update_conflicts:
            raise AppendOnlyError("bulk_create(update_conflicts=True)")
        return super().bulk_create(objs, *args, **options)

    bulk_create.alters_data = True  # type: ignore[attr-defined]


class ConnectionEvent(models.Model):
    class Action(models.TextChoices):
        CONNECTED = "connected", _("connected")
        REFRESHED = "refreshed", _("refreshed")
        REFRESH_FAILED = "refresh_failed", _("refresh failed")
        REAUTHORIZATION_REQUIRED = "reauthorization_required", _("must be connected again")
        SCOPES_CHANGED = "scopes_changed", _("scopes changed")
        DISCONNECTED = "disconnected", _("disconnected")
        REVOKED_BY_STAFF = "revoked_by_staff", _("revoked by staff")
        KEY_ROTATED = "key_rotated", _("key rotated")

    id = models.BigAutoField(primary_key=True)
    # Not a foreign key: the history outlives the row.
    connection_id = models.UUIDField(_("connection"))
    provider = models.CharField(_("provider"), max_length=100)
    owner = models.CharField(_("owner"), max_length=255)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("who"),
    )
    action = models.CharField(_("action"), max_length=32, choices=Action.choices)
    error = models.CharField(_("error"), max_length=64, blank=True)
    detail = models.JSONField(_("detail"), default=dict, blank=True)
    # When it happened: many are written together, a little later.
    created_at = models.DateTimeField(_("when"), default=timezone.now, editable=False, db_index=True)

    objects = ConnectionEventQuerySet.as_manager()

    class Meta:
        verbose_name = _("connection event")
        verbose_name_plural = _("connection events")
        indexes = [models.Index(fields=["connection_id", "created_at"], name="oauth_connect_history")]

    def __str__(self) -> str:
        return f"{self.action} {self.provider}"

    def save(self, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnlyError("save()")
        super().save(**kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AppendOnlyError("delete()")
