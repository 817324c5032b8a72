"""Stores a token that a flow or other code has obtained: a new connection, or a new token for one."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic

from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet

from oauth_connect.conf import conf
from oauth_connect.engine.refresh import refresh_time
from oauth_connect.engine.store import ACTIVE, REAUTHORIZATION_REQUIRED
from oauth_connect.errors import ConnectionLocked, KeyUnavailable
from oauth_connect.models.lifecycle import history, ownership, revocation
from oauth_connect.models.owner import Owner, check_actor
from oauth_connect.models.pending_revocation import PendingRevocation
from oauth_connect.models.row import MAX_ACCOUNT_ID, ConnectionRow, R, identity_of, is_account_id, rows_of
from oauth_connect.protocol.grants import responses
from oauth_connect.protocol.grants.lifetimes import reconnect_before
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.stores.columns import UNLEASED, token_columns
from oauth_connect.stores.lock_timeouts import locking

logger = logging.getLogger("oauth_connect")
MAX_TRIES = 10  # if other writers change the row each time and no lock prevents it


@dataclass(frozen=True, slots=True)
class _Stored(Generic[R]):
    """``scopes_before``: of the row that was overwritten; None for a new row."""

    connection: R
    scopes_before: Collection[str] | None = None


def store(
    rows: QuerySet[R],
    *,
    owner: Owner,
    provider: str,
    token_response: Mapping[str, Any] | Token,
    account_id: str,
    account_label: str,
    connected_by: Any,
    obtained_at: datetime | None,
    **fields: Any,
) -> R:
    """Store a token in the owner's row for that account, and return the row. ``rows``: all of its model.

    Raises ConnectionLocked, OwnerMismatch, InvalidOwner for the key of a user that does not exist, ValueError
    for an account id that no column can hold, and the errors of the provider's settings.
    """
    check_actor(connected_by)
    if account_id and not is_account_id(account_id):
        raise ValueError(f"account_id: must be printable, with at most {MAX_ACCOUNT_ID} characters.")
    entry = conf.declared_provider(provider, owner.key).resolve_with_client(fields.get("variables") or {})
    token = _token(entry, token_response, obtained_at or datetime.now(UTC))
    fields["client_id"] = entry.client_id
    fields["reconnect_before"] = reconnect_before(entry, token.obtained_at)
    if account_label:
        fields["account_label"] = account_label[:255]
    key = {"owner": owner.key, "provider": provider, "account_id": account_id}
    user = owner.user or ownership.user_of(owner, rows.db)
    actor = connected_by or user
    values = {
        **key,
        "user": user,
        "connected_by": actor,
        **fields,
        "identity": identity_of(*key.values()),
    }
    # No lock yet: MariaDB may lock the gap of a missing row, and two inserts then wait for each other.
    table = rows_of(rows.model, rows.db)
    columns = {field.name for field in table.model._meta.get_fields()}
    own = {name: value for name, value in fields.items() if name not in columns}  # of a multi-table child
    fields = {name: value for name, value in fields.items() if name in columns}
    exists = table.filter(identity=values["identity"]).exists()
    stored = (_renew(table, values["identity"], token, fields) if exists else None) or _insert(
        rows.model, table, values, token, fields
    )
    history.write(history.of_connecting(stored.connection, stored.scopes_before, actor))
    return _of_model(rows, stored.connection, own)


def _of_model(rows: QuerySet[R], connection: R, own: Mapping[str, Any]) -> R:
    """Return the row as an instance of a subclass. Insert the missing part of a multi-table child.

    ``own``: the child's own columns.
    """
    if isinstance(connection, rows.model):
        return connection
    found = rows.filter(id=connection.pk).first()
    if found is not None and own:
        for name, value in own.items():
            setattr(found, name, value)
        found.save(update_fields=list(own), using=rows.db)
    if found is None:
        links = [link for link in rows.model._meta.parents.values() if link is not None]
        found = rows.model(**own, **{link.attname: connection.pk for link in links})
        found.__dict__.update({f.attname: getattr(connection, f.attname) for f in connection._meta.fields})
        found.save_base(raw=True, using=rows.db, force_insert=True)  # raw: the child's table only
    return found


def seal_new(row: ConnectionRow, token: Token) -> None:
    """Put a token into the columns of a row that is not saved yet."""
    for name, value in token_columns(row, token, refresh_time(token, conf.refresh_leeway)).items():
        setattr(row, name, value)


def _renew(rows: QuerySet[R], identity: str, token: Token, fields: Mapping[str, Any]) -> _Stored[R] | None:
    """Overwrite the token of an existing row; None where it is gone.

    Reads the row with a lock, because an old snapshot of the caller's transaction may show an older one.
    Raises ConnectionLocked if another writer changes the row before each try.
    """
    for _ in range(MAX_TRIES):
        with locking(rows.db):
            connection = rows.select_for_update().filter(identity=identity).first()
            if connection is None:
                return None
            connection.check_owner()
            if _overwrite(rows, connection, token, fields):
                renewed = rows.filter(pk=connection.pk).first()
                return _Stored(renewed, connection.scopes) if renewed else None
    raise ConnectionLocked(
        "Other processes keep changing this connection's row; nothing was stored. Try again."
    )


def _insert(
    model: type[R], rows: QuerySet[R], values: Mapping[str, Any], token: Token, fields: Mapping[str, Any]
) -> _Stored[R]:
    connection = model(**values)
    seal_new(connection, token)
    try:
        with transaction.atomic(using=rows.db):
            connection.save(force_insert=True, using=rows.db)
    except IntegrityError:
        # Another process has connected the same account in the meantime.
        renewed = _renew(rows, values["identity"], token, fields)
        if renewed is None:
            raise
        return renewed
    return _Stored(connection)


def _overwrite(rows: QuerySet[R], connection: R, token: Token, fields: Mapping[str, Any]) -> bool:
    """Write a token over the version that was read, and keep the row's own. Return False for another version.

    A refresh in flight then finds another version. If the row's own refresh token stays, that refresh is
    still valid, and it keeps its lease.
    """
    held = _held(connection)
    whole = _with_missing_parts(connection, held, token, fields["client_id"])
    columns = token_columns(connection, whole, refresh_time(whole, conf.refresh_leeway))
    changes = {**columns, **fields, "version": F("version") + 1}
    if whole is token:
        changes |= UNLEASED
    else:
        if connection.reconnect_before and fields["reconnect_before"]:
            # The old refresh token stays, and its absolute lifetime counts from the old consent.
            changes["reconnect_before"] = min(connection.reconnect_before, fields["reconnect_before"])
        # The doubt whether the old refresh token was spent stays with it.
        del changes["in_doubt"]
    with transaction.atomic(using=rows.db, savepoint=False):
        if not rows.filter(pk=connection.pk, version=connection.version).update(**changes):
            return False
        if held is not None and _must_be_kept(connection, held, whole):
            revocation.keep_aside(PendingRevocation.of(connection), held, rows.db)
    return True


def _held(connection: ConnectionRow) -> Token | None:
    """Return the token that a row holds. None: there is none, or no key opens it."""
    if not connection.sealed_token:
        return None
    try:
        return connection.token
    except KeyUnavailable:
        details = {
            "action": "token_unopened",
            "provider": connection.provider,
            "connection": str(connection.pk),
        }
        logger.warning("no key opens the token of a connection that is replaced: not kept", extra=details)
        return None


def _must_be_kept(connection: ConnectionRow, held: Token, new: Token) -> bool:
    """Return whether a token that is written over may still work: it must be revoked some day."""
    ended_there = connection.status == REAUTHORIZATION_REQUIRED and connection.last_error == "revoked"
    return not ended_there and held.differs_from(new)


def _token(provider: Provider, response: Mapping[str, Any] | Token, obtained_at: datetime) -> Token:
    if isinstance(response, Token):
        return response
    return responses.read_token(provider, response, obtained_at=obtained_at, requested_scopes=provider.scopes)


def _with_missing_parts(connection: ConnectionRow, held: Token | None, token: Token, client_id: str) -> Token:
    """Keep the row's refresh token where a repeated consent sent no new one."""
    if held is None or token.renewable or connection.status != ACTIVE or connection.client_id != client_id:
        return token
    return replace(
        token,
        refresh_token=held.refresh_token,
        refresh_token_expires_at=token.refresh_token_expires_at or held.refresh_token_expires_at,
    )
