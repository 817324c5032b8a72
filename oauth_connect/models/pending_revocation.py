"""The model of tokens that no connection holds any more, and that must be revoked at their provider.

Either an attempt is due, or the token is kept aside: revoking it now would end a connection that is in use.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from oauth_connect.engine.store import ACCOUNT_CHANGED, REAUTHORIZATION_REQUIRED
from oauth_connect.models.fields import KeyField, Sealed, SealedField
from oauth_connect.protocol.token import Token
from oauth_connect.stores.columns import open_token, seal_token


@dataclass(frozen=True, slots=True)
class GrantKey:
    """Identifies the grant that a token belongs to.

    ``account_id``: None where it is unknown. ``account_changed``: it is unknown, and may be of another owner.
    """

    provider: str
    client_id: str
    owner: str
    account_id: str | None
    variables: Mapping[str, Any]
    account_changed: bool = False


class PendingRevocationQuerySet(models.QuerySet["PendingRevocation"]):
    def waiting(self) -> Self:
        """Return the tokens whose next attempt has a date. The others are kept aside."""
        return self.filter(next_attempt_at__isnull=False)

    def kept(self) -> Self:
        """Return the tokens that are kept aside until a connection of their account ends."""
        return self.filter(next_attempt_at=None)


class PendingRevocation(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    connection_id = models.UUIDField(_("connection"), db_index=True)
    owner: models.Field[str, str] = KeyField(_("owner"), max_length=255)
    provider: models.Field[str, str] = KeyField(_("provider"), max_length=100)
    # Null: the account is unknown. Then any connection of the owner may share the grant.
    account_id: models.Field[str | None, str | None] = KeyField(
        _("account id"), max_length=255, null=True, blank=True
    )
    client_id: models.Field[str, str] = KeyField(_("client id"), max_length=500, blank=True)
    variables = models.JSONField(_("variables"), default=dict, blank=True)
    sealed_token: models.Field[Sealed, Sealed] = SealedField(_("token"))
    # db_default: during an upgrade, processes of the previous release go on writing rows.
    account_changed = models.BooleanField(_("account changed"), default=False, db_default=False)
    # The end of the token's life, if it is known.
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    # Null: kept aside until a connection of the same account ends.
    next_attempt_at = models.DateTimeField(
        _("next attempt at"), default=timezone.now, db_index=True, null=True, blank=True
    )
    last_error = models.CharField(_("last error"), max_length=64, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    objects = PendingRevocationQuerySet.as_manager()

    class Meta:
        verbose_name = _("pending revocation")
        verbose_name_plural = _("pending revocations")
        indexes = [models.Index(fields=["provider", "account_id"], name="oauth_connect_kept")]

    def __str__(self) -> str:
        return f"{self.provider}: {self.connection_id}"

    @classmethod
    def of(cls, connection: Any) -> Self:
        """Return a row for a token of a connection. It is not saved, and the token is not sealed yet."""
        marked = connection.status == REAUTHORIZATION_REQUIRED
        changed = marked and connection.last_error == ACCOUNT_CHANGED
        return cls(
            connection_id=connection.id,
            owner=connection.owner,
            provider=connection.provider,
            account_id=None if changed else connection.account_id,
            account_changed=changed,
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
            account_changed=self.account_changed,
        )

    def seal(self, token: Token) -> None:
        self.sealed_token = type(self)._meta.get_field("sealed_token").to_python(seal_token(self, token))
        self.expires_at = self.end_of(token)

    @staticmethod
    def end_of(token: Token) -> datetime | None:
        """Return when nothing of a token can be used any more; None if that is not known."""
        return token.refresh_token_expires_at if token.refresh_token else token.expires_at

    def open(self) -> Token:
        return open_token(self, self.sealed_token)
