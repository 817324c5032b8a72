"""The QuerySet of connections. Its bulk updates refuse the refresh protocol's columns."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.db import models, router

from oauth_connect.engine.client_credentials import CLIENT_CREDENTIALS
from oauth_connect.engine.store import ACTIVE
from oauth_connect.models.lifecycle import connect
from oauth_connect.models.owner import Owner
from oauth_connect.models.row import IDENTITY_COLUMNS, PROTOCOL_COLUMNS
from oauth_connect.protocol.token import Token
from oauth_connect.stores.whole_rows import has_own_table, rows_where
from oauth_connect.tracebacks import without_locals

M = TypeVar("M", bound=models.Model)
BY_PK = ({"pk"}, {"id"})


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

    # Set by the manager. Django copies it to no other QuerySet, so it means: nothing was filtered or chained.
    _is_whole_table = False

    @without_locals
    def get(self, *args: Any, **kwargs: Any) -> M:
        """Return the one row. By primary key alone, no query is compiled (stores/whole_rows.py)."""
        if args or kwargs.keys() not in BY_PK or not self._is_whole_table or self.query.where:
            return super().get(*args, **kwargs)
        (pk,) = kwargs.values()
        if not isinstance(pk, uuid.UUID | str):
            return super().get(pk=pk)
        for row in rows_where(self.model, self.db, id=pk):
            return row
        model: Any = self.model
        raise model.DoesNotExist(f"{model._meta.object_name} matching query does not exist.")

    def from_primary(self) -> ConnectionQuerySet[M]:
        """Return the same rows, read where they are written.

        A replica that lags does not show yet that a user has just connected or disconnected an account.
        """
        return self.using(router.db_for_write(self.model))

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

    @without_locals
    def update(self, **kwargs: Any) -> int:
        refuse_columns(kwargs, "update()")
        return super().update(**kwargs)

    update.alters_data = True  # type: ignore[attr-defined]

    @without_locals
    def bulk_update(self, objs: Iterable[M], fields: Iterable[str], batch_size: int | None = None) -> int:
        names = list(fields)
        refuse_columns(names, "bulk_update()")
        return super().bulk_update(objs, names, batch_size=batch_size)

    bulk_update.alters_data = True  # type: ignore[attr-defined]

    @without_locals
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

    @without_locals
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
        ``redirect_uri``, ``requested_scopes`` (those that the user consented to), ``variables``, ``extra``.
        """
        refuse_protocol_columns(fields.keys() - {"redirect_uri", "requested_scopes"}, "store()")
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


if TYPE_CHECKING:

    class _Manager(models.Manager[M]):
        """What ``from_queryset`` makes, in words for type checkers: without a plugin they know none of it."""

        def all(self) -> ConnectionQuerySet[M]: ...
        def filter(self, *args: Any, **kwargs: Any) -> ConnectionQuerySet[M]: ...
        def exclude(self, *args: Any, **kwargs: Any) -> ConnectionQuerySet[M]: ...
        def order_by(self, *field_names: Any) -> ConnectionQuerySet[M]: ...
        def select_related(self, *fields: Any) -> ConnectionQuerySet[M]: ...
        def using(self, alias: str | None) -> ConnectionQuerySet[M]: ...
        def from_primary(self) -> ConnectionQuerySet[M]: ...
        def for_owner(self, owner: Any) -> ConnectionQuerySet[M]: ...
        def due(self, within: timedelta = ...) -> ConnectionQuerySet[M]: ...
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
        ) -> M: ...
else:
    _Manager = models.Manager.from_queryset(ConnectionQuerySet)


class ConnectionManager(_Manager[M]):
    """The manager of connections. Django's own frame above such a method has the arguments."""

    def get_queryset(self) -> ConnectionQuerySet[M]:
        queryset = cast("ConnectionQuerySet[M]", super().get_queryset())
        queryset._is_whole_table = has_own_table(self.model)
        return queryset

    store = without_locals(_Manager.store)
    update = without_locals(_Manager.update)
    bulk_create = without_locals(_Manager.bulk_create)
    bulk_update = without_locals(_Manager.bulk_update)
