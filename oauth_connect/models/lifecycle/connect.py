"""Stores a token that a flow or other code has obtained: a new connection, or a new token for one."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, Generic

from django.contrib.auth import get_user_model
from django.db import IntegrityError, router, transaction
from django.db.models import Exists, Manager, QuerySet

from oauth_connect.conf import conf
from oauth_connect.engine.store import ACTIVE, REAUTHORIZATION_REQUIRED
from oauth_connect.engine.timing import refresh_time
from oauth_connect.errors import ConnectionLocked, KeyUnavailable
from oauth_connect.models.lifecycle import history, ownership, provider_health, revocation
from oauth_connect.models.owner import Owner, check_actor, id_of
from oauth_connect.models.pending_revocation import PendingRevocation
from oauth_connect.models.provider_state import ProviderState
from oauth_connect.models.row import MAX_ACCOUNT_ID, ConnectionRow, R, identity_of, is_account_id, rows_of
from oauth_connect.protocol.grants import responses
from oauth_connect.protocol.grants.lifetimes import reconnect_before
from oauth_connect.protocol.provider import Provider, scope_tuple
from oauth_connect.protocol.token import Token
from oauth_connect.stores.batch import Slot
from oauth_connect.stores.columns import UNLEASED, token_columns
from oauth_connect.stores.compiled import Statement, update
from oauth_connect.stores.lock_timeouts import inserted, locking, retried

logger = logging.getLogger("oauth_connect")
MAX_TRIES = 10  # if other writers change the row each time and no lock prevents it


@dataclass(frozen=True, slots=True)
class Present(Generic[R]):
    """What the database has right before a token is stored.

    ``row``: the account's row, or None. ``is_active``: whether all users are there and active.
    ``has_alarm``: whether there may be an alarm about the provider's settings.
    """

    row: R | None
    is_active: bool
    has_alarm: bool


def look_up(
    model: type[R], owner: Owner, provider: str, account_id: str, users: Collection[Any]
) -> Present[R]:
    """Read what ``store`` and its caller need, with one statement if the account is connected already."""
    alias = router.db_for_write(model)
    rows = rows_of(model, alias)
    identity = identity_of(owner.key, provider, account_id)
    if len(users) == 1 and _has_all_tables(alias):
        (user,) = users
        values = {"identity": identity, "provider": provider, "user": id_of(user)}
        for row in _lookup(rows.model, alias).select(rows, values):
            is_active, has_alarm = (bool(row.__dict__.pop(name)) for name in ("is_active", "has_alarm"))
            return Present(row, is_active, has_alarm)
        found = None
    else:
        found = rows.filter(identity=identity).first()
    return Present(found, all(map(_is_active, users)), has_alarm=True)


def _is_active(user: Any) -> bool:
    """Return whether the database still has the user, and as an active one."""
    users = get_user_model()
    present: Any = users._base_manager.using(router.db_for_write(users)).filter(pk=id_of(user)).first()
    return present is not None and getattr(present, "is_active", True)


def _has_all_tables(alias: str) -> bool:
    """Return whether one statement can read users and alarms too: ``is_active`` may be a property.

    A manager of the site may choose users by something else at each query, such as the present tenant.
    """
    users = get_user_model()
    if type(users._base_manager) is not Manager:
        return False
    has_column = any(field.name == "is_active" for field in users._meta.concrete_fields)
    return has_column and {router.db_for_write(model) for model in (users, ProviderState)} == {alias}


@cache
def _lookup(model: type[ConnectionRow], alias: str) -> Statement:
    users = get_user_model()
    present = users._base_manager.filter(pk=Slot("user", users._meta.pk), is_active=True)
    rows = rows_of(model, alias).filter(identity=Slot("identity", model._meta.get_field("identity")))
    slug = Slot("provider", ProviderState._meta.pk)
    found = rows.annotate(is_active=Exists(present), has_alarm=provider_health.has_alarm(slug))
    return Statement.of(found.query, alias)


def store(
    rows: QuerySet[R],
    *,
    owner: Owner,
    provider: str,
    token_response: Mapping[str, Any] | Token,
    account_id: str,
    account_label: str,
    connected_by: Any,
    obtained_at: datetime | None = None,
    present: Present[R] | None = None,
    **fields: Any,
) -> R:
    """Store a token in the owner's row for that account, and return the row. ``rows``: all of its model.

    ``present``: the result of ``look_up``, a moment ago.
    Raises ConnectionLocked, OwnerMismatch, InvalidOwner for the key of a user that does not exist, ValueError
    for an account id that no column can hold, and the errors of the provider's settings.
    """
    check_actor(connected_by)
    if account_id and not is_account_id(account_id):
        raise ValueError(f"account_id: must be printable, with at most {MAX_ACCOUNT_ID} characters.")
    entry = conf.declared_provider(provider, owner.key).resolve_with_client(fields.get("variables") or {})
    requested = scope_tuple(fields.get("requested_scopes") or entry.scopes)
    token = _token(entry, token_response, obtained_at or datetime.now(UTC), requested)
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
    table = rows_of(rows.model, rows.db)
    columns = {field.name for field in table.model._meta.get_fields()}
    own = {name: value for name, value in fields.items() if name not in columns}  # of a multi-table child
    fields = {name: value for name, value in fields.items() if name in columns}
    if present is None:
        present = Present(table.filter(identity=values["identity"]).first(), is_active=True, has_alarm=True)
    stored = _renew(table, values["identity"], token, fields, actor, present.row) if present.row else None
    return _of_model(rows, stored or _insert(rows.model, table, values, token, fields), own)


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
    for name, value in _consent_columns(row, token).items():
        setattr(row, name, value)


def _consent_columns(row: ConnectionRow, token: Token) -> dict[str, Any]:
    """Return the columns that a token sets that a consent gave. It is not a refreshed one."""
    columns = token_columns(row, token, refresh_time(token, conf.refresh_leeway))
    del columns["last_refreshed_at"]
    return columns


def _renew(
    rows: QuerySet[R],
    identity: str,
    token: Token,
    fields: Mapping[str, Any],
    actor: Any,
    present: R | None = None,
) -> R | None:
    """Overwrite the token of an existing row, and return the row; None where it is gone.

    ``present``: the row as it was read without a lock. MariaDB may lock the gap of a missing row, and two
    inserts then wait for each other. If it has changed, it is read again with a lock, because an old snapshot
    of the caller's transaction may show an older row. Raises ConnectionLocked if another writer changes the
    row before each try.
    """
    if present is not None and _overwrite(rows, present, token, fields, actor):
        return present
    for _ in range(MAX_TRIES):
        with locking(rows.db):
            connection = rows.select_for_update().filter(identity=identity).first()
            if connection is None:
                return None
            if _overwrite(rows, connection, token, fields, actor):
                return connection
    raise ConnectionLocked(
        "Other processes keep changing this connection's row; nothing was stored. Try again."
    )


def _insert(
    model: type[R], rows: QuerySet[R], values: Mapping[str, Any], token: Token, fields: Mapping[str, Any]
) -> R:
    connection = model(**values)
    seal_new(connection, token)
    try:
        inserted(rows.db, lambda: connection.save(force_insert=True, using=rows.db))
        connection.note_opened(token)
    except IntegrityError:
        # Another process has connected the same account in the meantime.
        renewed = _renew(rows, values["identity"], token, fields, values["connected_by"])
        if renewed is None:
            raise
        return renewed
    history.write(history.of_connecting(connection, None, values["connected_by"]))
    return connection


def _overwrite(rows: QuerySet[R], connection: R, token: Token, fields: Mapping[str, Any], actor: Any) -> bool:
    """Write a token into the instance and over the row that it was read from, with the history.

    Return False if the row has changed. The row's own token is kept aside. A refresh in flight then finds
    another version. If the row's own refresh token stays, that refresh is still valid and keeps its lease.
    """
    connection.check_owner()
    scopes_before = connection.scopes
    held = _held(connection)
    whole = _with_missing_parts(connection, held, token, fields["client_id"])
    columns = _consent_columns(connection, whole)
    changes = {**columns, **fields, "version": connection.version + 1}
    if whole is token:
        changes |= UNLEASED
    else:
        if connection.reconnect_before and fields["reconnect_before"]:
            # The old refresh token stays, and its absolute lifetime counts from the old consent.
            changes["reconnect_before"] = min(connection.reconnect_before, fields["reconnect_before"])
        # The doubt whether the old refresh token was spent stays with it.
        del changes["in_doubt"]
    aside = PendingRevocation.of(connection)
    is_kept = held is not None and _must_be_kept(connection, held, whole) and revocation.is_left(aside, held)
    # A new owner or a mark leave the version as it is.
    unchanged = {name: getattr(connection, name) for name in ("id", "version", "identity", "status")}

    def write() -> bool:
        with transaction.atomic(using=rows.db, savepoint=False) if is_kept else nullcontext():
            if not update(rows, unchanged, changes):
                return False
            if held is not None and is_kept:
                revocation.keep_aside(aside, held, rows.db)
            return True

    for name, value in changes.items():
        setattr(connection, name, value)
    connection.note_opened(whole)
    entries = history.of_connecting(connection, scopes_before, actor)
    return retried(rows.db, lambda: history.write_with(write, entries, rows.db), only_deadlocks=True)


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


def _token(
    provider: Provider,
    response: Mapping[str, Any] | Token,
    obtained_at: datetime,
    requested: tuple[str, ...],
) -> Token:
    if isinstance(response, Token):
        return response
    body = responses.unwrapped(provider, response)
    return responses.read_token(provider, body, obtained_at=obtained_at, requested_scopes=requested)


def _with_missing_parts(connection: ConnectionRow, held: Token | None, token: Token, client_id: str) -> Token:
    """Keep the row's refresh token where a repeated consent sent no new one."""
    if held is None or token.renewable or connection.status != ACTIVE or connection.client_id != client_id:
        return token
    return replace(
        token,
        refresh_token=held.refresh_token,
        refresh_token_expires_at=token.refresh_token_expires_at or held.refresh_token_expires_at,
    )
