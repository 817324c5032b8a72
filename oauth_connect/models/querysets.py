"""Queries over connections, and the one way to store a token that did not come from a refresh."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import IntegrityError, models, router, transaction

from oauth_connect.conf import conf
from oauth_connect.engine.client_credentials import CLIENT_CREDENTIALS
from oauth_connect.engine.refresh import refresh_time
from oauth_connect.engine.store import ACTIVE
from oauth_connect.errors import ConnectionLocked, KeyUnavailable
from oauth_connect.models import history
from oauth_connect.models.owner import Owner
from oauth_connect.protocol import answers
from oauth_connect.protocol.lifetimes import reconnect_before
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.stores.columns import COLUMNS, UNLEASED, open_token, token_columns
from oauth_connect.stores.waits import locking

if TYPE_CHECKING:
    from oauth_connect.models.connection import Connection

M = TypeVar("M", bound=models.Model)

PROTOCOL_COLUMNS = frozenset(COLUMNS)
TRIES = 10  # of writing over a row that others write to all the time, where no lock keeps them off


class ProtocolColumnsError(TypeError):
    """Columns of the refresh protocol cannot be changed like this; see the message."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """``scopes_before``: those of the row that was written over; None where there was none."""

    connection: Connection
    scopes_before: Collection[str] | None = None


def refuse_protocol_columns(names: Iterable[str], how: str) -> None:
    touched = sorted(PROTOCOL_COLUMNS.intersection(names))
    if touched:
        raise ProtocolColumnsError(
            f"{how} of {', '.join(touched)}: these belong to the refresh protocol, and a stale value in them "
            "loses tokens. Use connection.refresh(), .disconnect() or Connection.objects.store()."
        )


def identity_of(owner: str, provider: str, *parts: Any) -> str:
    """Return the hash by which a connection is unique, whatever a collation takes for equal."""
    return hashlib.sha256(json.dumps([owner, provider, *parts]).encode()).hexdigest()


class ConnectionQuerySet(models.QuerySet[M]):
    """Connections. Updates of many rows refuse the protocol's columns."""

    def for_owner(self, owner: Any) -> ConnectionQuerySet[M]:
        """Return the connections of a user, an Owner or an owner's key."""
        return self.filter(owner=Owner.of(owner).key)

    def due(self, within: timedelta = timedelta(0)) -> ConnectionQuerySet[M]:
        """Return the connections whose token should be refreshed now, or within the given time.

        Machine tokens never are: who needs one asks for it.
        """
        due = self.filter(status=ACTIVE, refresh_at__lte=datetime.now(UTC) + within)
        return due.exclude(grant=CLIENT_CREDENTIALS)

    def update(self, **kwargs: Any) -> int:
        refuse_protocol_columns(kwargs, "update()")
        return super().update(**kwargs)

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_update(self, objs: Iterable[M], fields: Iterable[str], batch_size: int | None = None) -> int:
        names = list(fields)
        refuse_protocol_columns(names, "bulk_update()")
        return super().bulk_update(objs, names, batch_size=batch_size)

    bulk_update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(  # type: ignore[override]  # the rest by keyword
        self,
        objs: Iterable[M],
        batch_size: int | None = None,
        *,
        update_fields: Collection[str] | None = None,
        **options: Any,
    ) -> list[M]:
        refuse_protocol_columns(update_fields or (), "bulk_create()")
        return super().bulk_create(objs, batch_size, update_fields=update_fields, **options)

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
        **facts: Any,
    ) -> Connection:
        """Store a token obtained elsewhere: the owner's connection to that account, new or renewed.

        ``token_response``: a token endpoint's answer (RFC 6749 section 5.1); its lifetime counts from
        ``obtained_at`` (aware; now). ``facts``: ``grant``, ``redirect_uri``, ``variables``, ``extra``.
        """
        refuse_protocol_columns(facts.keys() - {"redirect_uri"}, "store()")
        whose = Owner.of(owner)
        entry = conf.declared_provider(provider, whose.key).resolve_with_client(facts.get("variables") or {})
        token = _token(entry, token_response, obtained_at or datetime.now(UTC))
        facts["client_id"] = entry.client_id
        facts["reconnect_before"] = reconnect_before(entry, token.obtained_at)
        if account_label:
            facts["account_label"] = account_label[:255]
        key = {"owner": whose.key, "provider": provider, "account_id": account_id}
        actor = connected_by or whose.user
        people = {"user": whose.user, "connected_by": actor}
        new = {**key, **people, **facts, "identity": identity_of(*key.values())}
        # Looked for without a lock: MariaDB may lock the gap where a row is not, and two who insert wait
        # for one another then.
        known = self._rows().filter(identity=new["identity"]).exists()
        renewed = self._renewed(new["identity"], token, facts) if known else None
        stored = renewed or self._inserted(new, token, facts)
        history.write(history.of_connecting(stored.connection, stored.scopes_before, actor))
        return stored.connection

    store.alters_data = True  # type: ignore[attr-defined]

    def _write_alias(self) -> str:
        queryset: Any = self
        return str(queryset._db or router.db_for_write(self.model, **queryset._hints))

    def _rows(self) -> models.QuerySet[Any]:
        """Return all rows where writes go, without the guards of the protocol's columns."""
        return models.QuerySet(self.model, using=self._write_alias())

    def _renewed(self, identity: str, token: Token, facts: Mapping[str, Any]) -> _Stored | None:
        """Write over the row as it is now, which is not what an old snapshot of the caller's shows.

        Raises ConnectionLocked where others are always faster.
        """
        rows = self._rows()
        for _ in range(TRIES):
            with locking(rows.db):
                connection = rows.select_for_update().filter(identity=identity).first()
                if connection is None:
                    return None
                if _write_over(rows.filter(pk=connection.pk), connection, token, facts):
                    renewed = rows.filter(pk=connection.pk).first()
                    return renewed and _Stored(renewed, connection.scopes)
        raise ConnectionLocked(
            "This connection's row is written to by others all the time; nothing was stored. Try again."
        )

    def _inserted(self, values: Mapping[str, Any], token: Token, facts: Mapping[str, Any]) -> _Stored:
        connection: Any = self.model(**values)
        columns = token_columns(connection, token, refresh_time(token, conf.refresh_leeway))
        for name, value in columns.items():
            setattr(connection, name, value)
        alias = self._write_alias()
        try:
            with transaction.atomic(using=alias):
                connection.save(force_insert=True, using=alias)
        except IntegrityError:
            # Somebody connected the same account at the same moment.
            renewed = self._renewed(values["identity"], token, facts)
            if renewed is None:
                raise
            return renewed
        return _Stored(connection)


def _write_over(
    row: models.QuerySet[Any], connection: Connection, token: Token, facts: Mapping[str, Any]
) -> bool:
    """Write by the row's key alone: whoever holds its lease refreshes what is now the past.

    With the row's own refresh token it is not the past: then the version must still be the one read,
    and a refresh that is under way keeps its lease, to save what it gets. False: it is another by now.
    """
    whole = _with_what_is_left_out(connection, token, facts["client_id"])
    columns = token_columns(connection, whole, refresh_time(whole, conf.refresh_leeway))
    changes = {**columns, **facts, "version": models.F("version") + 1}
    if whole is token:
        return bool(row.update(**changes, **UNLEASED))
    if connection.reconnect_before and facts["reconnect_before"]:
        # The old refresh token stays: so does the consent that its end counts from.
        changes["reconnect_before"] = min(connection.reconnect_before, facts["reconnect_before"])
    # Whether the refresh token that stays has been spent is as open as it was.
    del changes["in_doubt"]
    return bool(row.filter(version=connection.version).update(**changes))


def _token(provider: Provider, response: Mapping[str, Any] | Token, obtained_at: datetime) -> Token:
    if isinstance(response, Token):
        return response
    return answers.read_token(provider, response, obtained_at=obtained_at, requested_scopes=provider.scopes)


def _with_what_is_left_out(connection: Any, token: Token, client_id: str) -> Token:
    """Keep a living refresh token that a repeated consent did not send again."""
    if token.renewable or connection.status != ACTIVE or connection.client_id != client_id:
        return token
    try:
        known = open_token(connection, connection.sealed_token)
    except KeyUnavailable:
        return token
    return replace(
        token,
        refresh_token=known.refresh_token,
        refresh_token_expires_at=token.refresh_token_expires_at or known.refresh_token_expires_at,
    )
