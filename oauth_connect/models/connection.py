"""The model of a connection: one account of an owner at one provider, with its sealed token."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from oauth_connect.conf import conf
from oauth_connect.models.lifecycle import access, disconnect
from oauth_connect.models.querysets import ConnectionManager
from oauth_connect.models.row import PROTOCOL_COLUMNS, ConnectionRow
from oauth_connect.protocol.session import ApiSession
from oauth_connect.tracebacks import without_locals


class Connection(ConnectionRow):
    """An owner's account at a provider. Calls its API, refreshes its token, and disconnects it."""

    objects = ConnectionManager["Connection"]()

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

    def save(self, **kwargs: Any) -> None:
        """Save without the refresh protocol's columns, unless the row is new or ``update_fields`` names them.

        Otherwise a stale instance, saved for its label, would overwrite the row with a spent token.
        """
        inserting = self._state.adding or kwargs.get("force_insert")
        if not inserting and kwargs.get("update_fields") is None:
            kwargs["update_fields"] = SITE_FIELDS
        super().save(**kwargs)

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


def _site_fields() -> Iterable[str]:
    fields = Connection._meta.concrete_fields
    return [f.name for f in fields if not f.primary_key and f.name not in PROTOCOL_COLUMNS]


SITE_FIELDS = frozenset(_site_fields())
