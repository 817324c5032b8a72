"""The model of a connection: one account of an owner at one provider, with its sealed token."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import cache
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from oauth_connect.conf import conf
from oauth_connect.errors import IncompleteConnection
from oauth_connect.models.lifecycle import access, disconnect, ownership
from oauth_connect.models.owner import Owner
from oauth_connect.models.querysets import ConnectionManager
from oauth_connect.models.row import CHOICE_COLUMNS, IDENTITY_COLUMNS, PROTOCOL_COLUMNS, ConnectionRow
from oauth_connect.protocol.session import ApiSession
from oauth_connect.tracebacks import without_locals


class Connection(ConnectionRow):
    """An owner's account at a provider. Calls its API, refreshes its token, and disconnects it."""

    objects: ClassVar[ConnectionManager[Self]] = ConnectionManager()

    class Meta:
        verbose_name = _("connection")
        verbose_name_plural = _("connections")
        indexes = [
            models.Index(fields=["provider", "refresh_at"], name="oauth_connect_due"),
            models.Index(fields=["owner", "provider"], name="oauth_connect_owner"),
        ]
        permissions = [
            ("refresh_connection", "Can refresh connection"),
            ("disconnect_connection", "Can disconnect connection"),
        ]

    def clean(self) -> None:
        """Refuse a new row in a form or an admin inline, where save() would raise."""
        super().clean()
        try:
            if self._state.adding:
                self.check_complete()
        except IncompleteConnection as error:
            raise ValidationError(str(error), code="incomplete") from None

    def save(self, **kwargs: Any) -> None:
        """Save the site's columns. Those of the refresh protocol only if ``update_fields`` names them.

        Otherwise a stale instance, saved for its label, would overwrite the row with a spent token, or give
        it back to its former owner. A new row is saved whole. Raises IncompleteConnection.
        """
        self.check_complete()
        self.check_identity(kwargs.get("update_fields") or ())
        inserting = self._state.adding or kwargs.get("force_insert")
        if not inserting and kwargs.get("update_fields") is None:
            if self._is_missing_in(kwargs.get("using")):
                kwargs["force_insert"] = True
            else:
                kwargs["update_fields"] = self._loaded_site_fields()
        super().save(**kwargs)

    def _loaded_site_fields(self) -> set[str]:
        """Return the columns to save. As in Django, those that were not loaded are not written."""
        deferred = self.get_deferred_fields()
        loaded = {f.name for f in self._meta.concrete_fields if f.attname not in deferred}
        return loaded & site_fields(type(self))

    def _is_missing_in(self, alias: str | None) -> bool:
        """Return whether a database is named that is not the row's own, and that lacks the row."""
        if alias is None or alias == self._state.db:
            return False
        return not type(self)._base_manager.using(alias).filter(pk=self.pk).exists()

    @without_locals
    def access_token(self, min_ttl: float = 60) -> str:
        """Return an access token that is valid for ``min_ttl`` seconds, refreshed if necessary; for SDKs.

        If a token's whole lifetime is less than four times ``min_ttl``, a quarter of that lifetime is enough.
        """
        return access.valid_token(self, timedelta(seconds=min_ttl)).access_token

    @without_locals
    async def aaccess_token(self, min_ttl: float = 60) -> str:
        """``access_token`` for async code; never blocks the event loop."""
        return (await access.avalid_token(self, timedelta(seconds=min_ttl))).access_token

    @without_locals
    def session(self) -> ApiSession:
        """Return a ``requests.Session`` that carries this connection's token to the provider's API."""
        return ApiSession(access.ConnectionSource(self), timeout=conf.api_timeout)

    @without_locals
    def refresh(self) -> None:
        """Refresh now. If another process has refreshed in the meantime, use its token."""
        access.refreshed_token(self)

    @without_locals
    async def arefresh(self) -> None:
        """``refresh`` for async code; never blocks the event loop."""
        await access.arefreshed_token(self)

    @without_locals
    def disconnect(self, *, actor: Any = None, by_staff: bool = False) -> None:
        """Stop local use, then revoke the token at the provider. A failed revocation is tried again later.

        ``actor``: the user who requested it; ``by_staff``: the actor is not the owner. Both are for the
        history.
        """
        disconnect.disconnect(self, actor=actor, by_staff=by_staff)

    @without_locals
    def move_to(self, owner: Any, *, actor: Any = None) -> None:
        """Hand this connection over to a user, an Owner or an owner's key.

        ``actor``: the user who requested it, for the history. Raises AlreadyConnected if the new owner has a
        connection to the same account, and InvalidOwner.
        """
        ownership.move(self, Owner.of(owner), actor=actor)

    move_to.alters_data = True  # type: ignore[attr-defined]


@cache
def site_fields(model: type[Connection]) -> frozenset[str]:
    """Return the names of the columns that ``save()`` writes on an existing row, a subclass's included."""
    ours = PROTOCOL_COLUMNS | IDENTITY_COLUMNS | CHOICE_COLUMNS
    fields: Iterable[Any] = model._meta.concrete_fields
    parts = (f for f in fields if not f.primary_key and not getattr(f.remote_field, "parent_link", False))
    return frozenset(f.name for f in parts if f.name not in ours)


SITE_FIELDS = site_fields(Connection)
