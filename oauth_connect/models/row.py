"""The columns of a connection, and the methods that only read them: the abstract base of ``Connection``."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlencode

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from oauth_connect.conf import conf
from oauth_connect.engine import store
from oauth_connect.engine.client_credentials import CLIENT_CREDENTIALS
from oauth_connect.errors import IncompleteConnection, OwnerMismatch, ReauthorizationRequired
from oauth_connect.models.fields import KeyField, Sealed, SealedField
from oauth_connect.models.owner import USER, key_of_id, user_id_of
from oauth_connect.protocol.grants.scopes import cover
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.stores.columns import COLUMNS, OPENED, opened_token, table_of
from oauth_connect.tracebacks import without_locals

if TYPE_CHECKING:
    from django.contrib.auth.models import _User  # of django-stubs: the user model of the settings

# A stale instance must not bring an older consent back.
PROTOCOL_COLUMNS = frozenset({*COLUMNS, "requested_scopes"})
# What a row is: whose account at which provider. Only ``move_to`` changes its owner.
IDENTITY_COLUMNS = frozenset({"owner", "user", "user_id", "provider", "account_id", "identity"})
# What the owner has chosen: the account, and its site. A stale instance that is saved must not undo it.
CHOICE_COLUMNS = frozenset({"chosen_at", "variables"})
IDENTITY_PARTS = frozenset(
    {"owner", "provider", "account_id", "grant", "client_id", "requested_scopes", "resource", "audience"}
    | {"identity"}
)
RECONNECT_SOON = timedelta(days=30)
MAX_ACCOUNT_ID = 255  # characters


class ConnectionRow(models.Model):
    """The columns of a connection. Only the refresh protocol writes those in ``PROTOCOL_COLUMNS``."""

    class Grant(models.TextChoices):
        AUTHORIZATION_CODE = "authorization_code", _("authorization code")
        DEVICE_CODE = "device_code", _("device code")
        CLIENT_CREDENTIALS = CLIENT_CREDENTIALS, _("client credentials")

    class Status(models.TextChoices):
        ACTIVE = store.ACTIVE, _("active")
        REAUTHORIZATION_REQUIRED = store.REAUTHORIZATION_REQUIRED, _("must be connected again")
        REVOKED = store.REVOKED, _("disconnected")

    id: models.Field[uuid.UUID, uuid.UUID] = models.UUIDField(
        primary_key=True, default=uuid.uuid4, editable=False
    )

    # Not editable: a form or a serializer would pretend to save what save() leaves out.
    owner: models.Field[str, str] = KeyField(_("owner"), max_length=255, editable=False)
    user: models.ForeignKey[_User | None, _User | None] = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="oauth_connections",
        verbose_name=_("user"),
        editable=False,
    )
    connected_by: models.ForeignKey[_User | None, _User | None] = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("connected by"),
        editable=False,
    )

    provider: models.Field[str, str] = KeyField(_("provider"), max_length=100, editable=False)
    grant: models.Field[str, str] = models.CharField(
        _("grant"), max_length=32, choices=Grant.choices, default=Grant.AUTHORIZATION_CODE, editable=False
    )
    account_id: models.Field[str, str] = KeyField(
        _("account id"), max_length=MAX_ACCOUNT_ID, blank=True, editable=False
    )
    account_label: models.Field[str, str] = models.CharField(_("account"), max_length=255, blank=True)
    scopes: models.Field[list[str], list[str]] = models.JSONField(
        _("granted scopes"), default=list, blank=True, editable=False
    )
    requested_scopes: models.Field[list[str], list[str]] = models.JSONField(
        _("requested scopes"), default=list, blank=True, editable=False
    )
    client_id: models.Field[str, str] = KeyField(_("client id"), max_length=500, blank=True, editable=False)
    redirect_uri: models.Field[str, str] = models.TextField(_("redirect URI"), blank=True, editable=False)
    resource: models.Field[str, str] = models.TextField(_("resource"), blank=True, editable=False)
    audience: models.Field[str, str] = models.TextField(_("audience"), blank=True, editable=False)
    variables: models.Field[dict[str, Any], dict[str, Any]] = models.JSONField(
        _("variables"), default=dict, blank=True, editable=False
    )
    extra: models.Field[dict[str, Any], dict[str, Any]] = models.JSONField(
        _("extra"), default=dict, blank=True
    )

    status: models.Field[str, str] = models.CharField(
        _("status"), max_length=32, choices=Status.choices, default=Status.ACTIVE, editable=False
    )
    expires_at: models.Field[datetime | None, datetime | None] = models.DateTimeField(
        _("expires at"), null=True, blank=True, editable=False
    )
    refresh_at: models.Field[datetime | None, datetime | None] = models.DateTimeField(
        _("refresh at"), null=True, blank=True, editable=False
    )
    refresh_token_expires_at: models.Field[datetime | None, datetime | None] = models.DateTimeField(
        _("refresh token expires at"), null=True, blank=True, editable=False
    )
    reconnect_before: models.Field[datetime | None, datetime | None] = models.DateTimeField(
        _("reconnect before"), null=True, blank=True, editable=False
    )
    last_refreshed_at: models.Field[datetime | None, datetime | None] = models.DateTimeField(
        _("last refreshed at"), null=True, blank=True, editable=False
    )
    error_since: models.Field[datetime | None, datetime | None] = models.DateTimeField(
        _("same error since"), null=True, blank=True, editable=False
    )
    last_error: models.Field[str, str] = models.CharField(
        _("last error"), max_length=64, blank=True, editable=False
    )
    failures: models.Field[int, int] = models.PositiveIntegerField(_("failures"), default=0, editable=False)
    # Of several accounts at a provider, the one with the newest time is used.
    chosen_at: models.Field[datetime | None, datetime | None] = models.DateTimeField(
        _("chosen at"), null=True, blank=True, editable=False
    )
    created_at: models.Field[datetime, datetime] = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at: models.Field[datetime, datetime] = models.DateTimeField(_("updated at"), auto_now=True)

    sealed_token: models.Field[Sealed | None, Sealed | None] = SealedField(_("token"), null=True)
    version: models.Field[int, int] = models.PositiveBigIntegerField(_("version"), default=0, editable=False)
    lease_owner: models.Field[str, str] = models.CharField(
        max_length=32, blank=True, default="", editable=False
    )
    lease_until: models.Field[int, int] = models.BigIntegerField(default=0, editable=False)
    in_doubt: models.Field[bool, bool] = models.BooleanField(_("in doubt"), default=False, editable=False)
    identity: models.Field[str, str] = models.CharField(max_length=64, unique=True, editable=False)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.provider}: {self.account_label or self.account_id or self.owner}"

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop(OPENED, None)
        return state

    # --- whose it is ----------------------------------------------------------------------------

    @property
    def owner_agrees(self) -> bool:
        """Whether ``owner`` and ``user`` name the same owner. A row where they differ is used by nobody."""
        # Compared here, because databases spell a primary key differently.
        if self.user_id is None:
            return user_id_of(self.owner) is None
        # Almost always both are written alike. Only otherwise compare spellings, which costs much more.
        return self.owner == f"{USER}{self.user_id}" or self.owner == key_of_id(self.user_id)

    def check_owner(self) -> None:
        """Raise OwnerMismatch if ``owner`` and ``user`` do not name the same owner."""
        if not self.owner_agrees:
            raise OwnerMismatch(
                f"The owner and the user of the connection {self.pk} are not the same. It is not used. "
                "Run: manage.py oauth_repair_owners"
            )

    def check_complete(self) -> None:
        """Raise IncompleteConnection unless the columns say whose account this is. Reads loaded ones only."""
        loaded = self.__dict__.keys()
        if {"owner", "user_id"} <= loaded and not self.owner_agrees:
            raise IncompleteConnection(
                "owner and user do not name the same owner. Use connection.move_to() to hand it over. If "
                "they are stored so, run: manage.py oauth_repair_owners"
            )
        if "identity" in loaded and not self.identity:
            raise IncompleteConnection("identity is missing. Use Connection.objects.store() for a new one.")

    def check_identity(self, written: Iterable[str] = ()) -> None:
        """Raise IncompleteConnection if loaded columns were changed that name the account.

        ``written``: the columns that will be written. If they name the account, the others are loaded.
        """
        known = self.__dict__.keys() >= IDENTITY_PARTS or not IDENTITY_PARTS.isdisjoint(written)
        if known and self.identity != self.computed_identity():
            raise IncompleteConnection(
                "identity does not fit the owner, provider and account. Use Connection.objects.store() for a "
                "new connection, and move_to() for another owner."
            )

    def computed_identity(self, owner: str = "") -> str:
        """Return the ``identity`` that fits the columns, for another owner if one is given."""
        parts: tuple[Any, ...] = (self.account_id,)
        if self.is_machine:
            parts = (self.grant, self.client_id, self.requested_scopes, self.resource, self.audience)
        return identity_of(owner or self.owner, self.provider, *parts)

    # --- the token ------------------------------------------------------------------------------

    @property
    @without_locals
    def token(self) -> Token:
        """The token that this instance has loaded; unsealed on first access.

        Raises KeyUnavailable, and ReauthorizationRequired where there is no token.
        """
        sealed = self.sealed_token
        if not sealed:
            raise self.reauthorization_required("disconnected")
        return opened_token(self, sealed)

    def note_opened(self, token: Token) -> None:
        """Note the token that ``sealed_token`` seals, so that it is not unsealed again."""
        if self.sealed_token:
            self.__dict__[OPENED] = (self.sealed_token, token)

    def has_scopes(self, *scopes: str) -> bool:
        """Return whether all of these scopes were granted, by themselves or by one that includes them."""
        if not all(isinstance(scope, str) for scope in scopes):
            raise TypeError(
                'Pass each scope as an argument: has_scopes("repo", "user"), or has_scopes(*scopes).'
            )
        if set(scopes) <= set(self.scopes):
            return True
        try:
            provider = conf.declared_provider(self.provider, self.owner)
        except ImproperlyConfigured:  # it left the settings, and its aliases with it
            return False
        return cover(provider, self.scopes, scopes)

    @property
    def reconnects_soon(self) -> bool:
        """Whether its absolute lifetime ends soon. A refresh does not extend it; the owner must reconnect."""
        end = self.reconnect_before
        return self.status == self.Status.ACTIVE and end is not None and end - timezone.now() < RECONNECT_SOON

    @property
    def is_machine(self) -> bool:
        """Whether this is a machine token: the client's own, without a user (RFC 6749 section 4.4)."""
        return self.grant == self.Grant.CLIENT_CREDENTIALS

    # --- the provider ---------------------------------------------------------------------------

    @without_locals
    def get_provider(self) -> Provider:
        """Return the provider from the present settings. Raises ImproperlyConfigured if they do not name it.

        Raises ProviderUnavailable or ProviderMisconfigured if its endpoints cannot be discovered.
        """
        return conf.provider(self.provider, self.owner).resolve(self.variables)

    @without_locals
    def get_declared_provider(self) -> Provider:
        """Return the provider from the settings alone, without discovered endpoints. Sends no request."""
        return conf.declared_provider(self.provider, self.owner).resolve(self.variables)

    @property
    def connect_url(self) -> str:
        """The path of the page that reconnects this account; "" where the site does not include our URLs."""
        try:
            path = reverse("oauth_connect:connect", kwargs={"provider": self.provider})
        except NoReverseMatch:
            return ""
        return f"{path}?{urlencode({'connection': self.pk})}"

    def reauthorization_required(self, reason: str, message: str = "") -> ReauthorizationRequired:
        """Return the error that sends the user to reconnect this account."""
        return ReauthorizationRequired(
            message or f"The {self.provider} account must be connected again.",
            reason=reason,
            connection=self,
            connect_url=self.connect_url,
        )


# The value of a variable for a site that the user has not chosen yet.
UNDECIDED = ""

R = TypeVar("R", bound=ConnectionRow)


def rows_of(model: type[R], alias: str) -> models.QuerySet[R]:
    """Return all rows in a database, with a QuerySet that may write the refresh protocol's columns.

    For a subclass of the model, too, these are rows of the model that has the table.
    """
    return models.QuerySet(cast("type[R]", table_of(model)), using=alias)


def identity_of(owner: str, provider: str, *parts: Any) -> str:
    """Return the hash that makes a connection unique, independent of the database's collation."""
    return hashlib.sha256(json.dumps([owner, provider, *parts]).encode()).hexdigest()


def is_account_id(text: str) -> bool:
    """Return whether the text can be an account id: printable, with 1 to MAX_ACCOUNT_ID characters."""
    return text.isprintable() and 0 < len(text) <= MAX_ACCOUNT_ID
