"""The model of tokens that wait for their revocation. No connection holds them any more."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from oauth_connect.models.fields import Sealed, SealedField
from oauth_connect.protocol.token import Token
from oauth_connect.stores.columns import open_token, seal_token


@dataclass(frozen=True, slots=True)
class GrantKey:
    """Identifies the grant that a token belongs to. ``account_id``: None where it is unknown."""

    provider: str
    client_id: str
    owner: str
    account_id: str | None
    variables: Mapping[str, Any]


class PendingRevocation(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    connection_id = models.UUIDField(_("connection"), db_index=True)
    owner = models.CharField(_("owner"), max_length=255)
    provider = models.CharField(_("provider"), max_length=100)
    # Null: the account is unknown. Then any connection of the owner may share the grant.
    account_id = models.CharField(_("account id"), max_length=255, null=True, blank=True)  # noqa: DJ001
    client_id = models.CharField(_("client id"), max_length=500, blank=True)
    variables = models.JSONField(_("variables"), default=dict, blank=True)
    sealed_token: models.Field[Sealed, Sealed] = SealedField(_("token"))
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    next_attempt_at = models.DateTimeField(_("next attempt at"), default=timezone.now, db_index=True)
    last_error = models.CharField(_("last error"), max_length=64, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        verbose_name = _("pending revocation")
        verbose_name_plural = _("pending revocations")

    def __str__(self) -> str:
        return f"{self.provider}: {self.connection_id}"

    @classmethod
    def of(cls, connection: Any) -> Self:
        return cls(
            connection_id=connection.pk,
            owner=connection.owner,
            provider=connection.provider,
            account_id=connection.account_id,
            client_id=connection.client_id,
            variables=connection.variables,
        )

    def grant_key(self) -> GrantKey:
        return GrantKey(
            provider=self.provider,
            client_id=self.client_id,
            owner=self.owner,
            account_id=self.account_id,
            variables=self.variables,
        )

    def seal(self, token: Token) -> None:
        self.sealed_token = type(self)._meta.get_field("sealed_token").to_python(seal_token(self, token))

    def open(self) -> Token:
        return open_token(self, self.sealed_token)
