"""The history of connections: who did what, and how refreshes went. It holds no token."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from oauth_connect.models.fields import KeyField

if TYPE_CHECKING:
    from django.contrib.auth.models import _User


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
        MOVED = "moved", _("handed over")

    id: models.Field[int, int] = models.BigAutoField(primary_key=True)
    # Not a foreign key: the history outlives the row.
    connection_id: models.Field[uuid.UUID, uuid.UUID] = models.UUIDField(_("connection"))
    provider: models.Field[str, str] = KeyField(_("provider"), max_length=100)
    owner: models.Field[str, str] = KeyField(_("owner"), max_length=255)
    actor: models.ForeignKey[_User | None, _User | None] = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("who"),
    )
    action: models.Field[str, str] = models.CharField(_("action"), max_length=32, choices=Action.choices)
    error: models.Field[str, str] = models.CharField(_("error"), max_length=64, blank=True)
    detail: models.Field[dict[str, Any], dict[str, Any]] = models.JSONField(
        _("detail"), default=dict, blank=True
    )
    # The time of the event. Bulk runs write many events together, a little later.
    created_at: models.Field[datetime, datetime] = models.DateTimeField(
        _("when"), default=timezone.now, editable=False, db_index=True
    )

    class Meta:
        verbose_name = _("connection event")
        verbose_name_plural = _("connection events")
        indexes = [models.Index(fields=["connection_id", "created_at"], name="oauth_connect_history")]

    def __str__(self) -> str:
        return f"{self.action} {self.provider}"
