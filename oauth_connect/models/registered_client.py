"""The model of clients that this site has registered at servers by itself, one for each server."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils.translation import gettext_lazy as _

from oauth_connect.models.fields import KeyField, Sealed, SealedField


class RegisteredClient(models.Model):
    """A client id and its secret at one server. Users choose the server, so the settings cannot name it."""

    SEALED = "sealed_client"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider: models.Field[str, str] = KeyField(_("provider"), max_length=100)
    server: models.Field[str, str] = KeyField(_("server"), max_length=255)
    sealed_client: models.Field[Sealed, Sealed] = SealedField(_("client"))
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        verbose_name = _("registered client")
        verbose_name_plural = _("registered clients")
        constraints = [
            models.UniqueConstraint(fields=["provider", "server"], name="oauth_connect_registered_client")
        ]

    def __str__(self) -> str:
        return f"{self.provider}: {self.server}"
