"""The QuerySet of connections. Its bulk updates refuse the refresh protocol's columns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from django.db import models, router

from oauth_connect.engine.client_credentials import CLIENT_CREDENTIALS
from oauth_connect.engine.store import ACTIVE
from oauth_connect.models.lifecycle import connect
from oauth_connect.models.owner import Owner
from oauth_connect.models.row import IDENTITY_COLUMNS, PROTOCOL_COLUMNS
from oauth_connect.protocol.token import Token

M = TypeVar("M", bound=models.Model)


class ProtocolColumnsError(TypeError):
    """Raised when a bulk update names columns that only this package may write; see the message."""


def refuse_columns(names: Iterable[str], how: str) -> None:
    """Raise ProtocolColumnsError for columns that only this package may write."""
    names = set(names)
    if touched := sorted(IDENTITY_COLUMNS.intersection(names)):
        raise ProtocolColumnsError(
            f"{how} of {', '.join(touched)}: these columns say whose account a connection is, and must "
            "agree. Use connection.move_to() to hand it over."
        )
    refuse_protocol_columns(names, how)


def refuse_protocol_columns(names: Iterable[str], how: str) -> None:
    touched = sorted(PROTOCOL_COLUMNS.intersection(names))
    if touched:
        raise ProtocolColumnsError(
            f"{how} of {', '.join(touched)}: only the refresh protocol may write these columns, because a "
            "stale value loses tokens. Use connection.refresh(), .disconnect() or Connection.objects.store()."
        )


class ConnectionQuerySet(models.QuerySet[M]):
    """A QuerySet of connections. Its bulk updates refuse the refresh protocol's columns."""

    def for_owner(self, owner: Any) -> ConnectionQuerySet[M]:
        """Return the connections of a user, an Owner or an owner's key, by ``owner`` and ``user``."""
        owner = Owner.of(owner)
        return self.filter(owner=owner.key, user=owner.user_id)

    def due(self, within: timedelta = timedelta(0)) -> ConnectionQuerySet[M]:
        """Return the connections whose token should be refreshed now, or within the given time.

        Machine tokens are never due: the caller that needs one requests it.
        """
        due = self.filter(status=ACTIVE, refresh_at__lte=datetime.now(UTC) + within)
        return due.exclude(grant=CLIENT_CREDENTIALS)

    def update(self, **kwargs: Any) -> int:
        refuse_columns(kwargs, "update()")
        return super().update(**kwargs)

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_update(self, objs: Iterable[M], fields: Iterable[str], batch_size: int | None = None) -> int:
        names = list(fields)
        refuse_columns(names, "bulk_update()")
        return super().bulk_update(objs, names, batch_size=batch_size)

    bulk_update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(  # type: ignore[override]  # the other parameters by keyword
        self,
        objs: Iterable[M],
        batch_size: int | None = None,
        *,
        update_fields: Collection[str] | None = None,
        **options: Any,
    ) -> list[M]:
        refuse_columns(update_fields or (), "bulk_create()")
        rows: list[Any] = list(objs)
        for row in rows:
            row.check_complete()
        return super().bulk_create(rows, batch_size, update_fields=update_fields, **options)

    bulk_create.alters_data = True  # type: ignore[attr-defined]

    def store(
        self,
        *,
        owner: Any,
        provider: str,
        token_response: Mapping[str, Any] | Token,
        account_id: str = "",
        account_label: str = "",
        connected_by: Any = None,
        obtained_at: datetime | None = None,
        **fields: Any,
    ) -> M:
        """Store a token that other code has obtained, in the owner's connection to that account.

        Creates the connection if there is none. ``token_response``: a token endpoint's response (RFC 6749
        section 5.1). Its lifetime counts from ``obtained_at`` (aware; default: now). ``fields``: ``grant``,
        ``redirect_uri``, ``variables``, ``extra``.
        """
        refuse_protocol_columns(fields.keys() - {"redirect_uri"}, "store()")
        queryset: Any = self
        alias = queryset._db or router.db_for_write(self.model, **queryset._hints)
        stored: M = connect.store(
            models.QuerySet(self.model, using=alias),
            owner=Owner.of(owner),
            provider=provider,
            token_response=token_response,
            account_id=account_id,
            account_label=account_label,
            connected_by=connected_by,
            obtained_at=obtained_at,
            **fields,
        )
        return stored

    store.alters_data = True  # type: ignore[attr-defined]
