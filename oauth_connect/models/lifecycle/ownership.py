"""Hands connections over, and finds and corrects rows whose ``owner`` and ``user`` do not agree.

``owner`` holds the user's primary key as text. A fixture, an update in SQL or a changed primary key can leave
it behind. Such a row is used by nobody, because one of the two would call with the other's token.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal

from django.contrib.auth import get_user_model
from django.db import IntegrityError, connections, router, transaction
from django.db.models import CharField, F, IntegerField, Q, QuerySet, Value
from django.db.models.functions import Cast, Concat

from oauth_connect.conf import conf
from oauth_connect.engine.store import REVOKED
from oauth_connect.errors import AlreadyConnected, InvalidOwner
from oauth_connect.models.lifecycle import history
from oauth_connect.models.owner import MACHINE, USER, Owner, check_actor, id_of, key_of, key_of_id, user_id_of
from oauth_connect.models.pending_revocation import PendingRevocation
from oauth_connect.models.row import PROTOCOL_COLUMNS, ConnectionRow, R, rows_of
from oauth_connect.protocol.provider import Provider
from oauth_connect.stores.batched_delete import unreferenced

Repair = Literal["owner_corrected", "user_removed", "user_added", "already_connected", "no_user", "unchanged"]


# --- handing over -----------------------------------------------------------------------------------


def move(connection: ConnectionRow, owner: Owner, *, actor: Any = None) -> None:
    """Give a connection with its kept tokens to another owner, in one transaction.

    ``actor``: the user who requested it, for the history. Raises AlreadyConnected, OwnerMismatch,
    InvalidOwner, and the model's DoesNotExist where the row is gone.
    """
    check_actor(actor)
    if connection.is_machine or owner.key.startswith(MACHINE):
        raise InvalidOwner("A machine token belongs to the site, and cannot be handed over.")
    alias = router.db_for_write(type(connection), instance=connection)
    user = owner.user or user_of(owner, alias)
    with transaction.atomic(using=alias):
        present = _locked(type(connection), connection.id, alias)
        if present is None:
            raise type(connection).DoesNotExist("This connection has been deleted.")
        present.check_owner()
        _check_same_provider(present, owner)
        if present.owner != owner.key:
            _write(present, owner.key, None if user is None else id_of(user), alias, actor)
    for name in ("owner", "user_id", "identity"):
        setattr(connection, name, getattr(present, name))


def user_of(owner: Owner, alias: str) -> Any:
    """Return the user whose key an owner has; None if it is no user's. Raises InvalidOwner: no such user."""
    if owner.user_id is None:
        return None
    user = get_user_model()._base_manager.using(alias).filter(pk=owner.user_id).first()
    # MariaDB finds "Bob" for the primary key "bob".
    if user is None or key_of(user) != owner.key:
        raise InvalidOwner(f"There is no user with the key {owner.key!r}.")
    return user


def _locked(model: type[R], pk: Any, alias: str) -> R | None:
    """Return the present row, locked by this transaction. Write before reading, as ``disconnect`` does."""
    row = rows_of(model, alias).filter(pk=pk)
    row.update(updated_at=datetime.now(UTC))
    return row.first()


def _write(row: R, owner: str, user_id: Any, alias: str, actor: Any = None) -> None:
    """Write the owner of a locked row, and the history of both. Raises AlreadyConnected."""
    rows = rows_of(type(row), alias)
    identity = row.computed_identity(owner)
    # A connection that has ended is in the way of none, unless a row of the site refers to it.
    ended = rows.filter(identity=identity, status=REVOKED, sealed_token__isnull=True).exclude(pk=row.id)
    unreferenced(ended).delete()
    _check_free(rows, row, identity)
    entries = [history.of(row, history.Action.MOVED, actor=actor)]
    try:
        with transaction.atomic(using=alias):
            rows.filter(pk=row.id).update(owner=owner, user=user_id, identity=identity, chosen_at=None)
    except IntegrityError:  # the owner has connected the account at the same moment
        _check_free(rows, row, identity)
        raise
    PendingRevocation.objects.using(alias).filter(connection_id=row.id).update(owner=owner)
    row.owner, row.user_id, row.identity, row.chosen_at = owner, user_id, identity, None
    history.write([*entries, history.of(row, history.Action.MOVED, actor=actor)])


def _check_free(rows: QuerySet[R], row: R, identity: str) -> None:
    other = rows.filter(identity=identity).exclude(pk=row.id).first()
    if other is not None:
        raise AlreadyConnected(
            f"The owner has a connection to this {row.provider} account already. Disconnect one of the two.",
            connection=other,
        )


def _check_same_provider(row: ConnectionRow, owner: Owner) -> None:
    """Raise InvalidOwner if the loader gives the other owner another client or server under this name.

    The token would be sent to that server.
    """
    if not conf.loads_providers:
        return
    before, after = (conf.declared_provider(row.provider, key) for key in (row.owner, owner.key))
    if _servers(before) != _servers(after):
        raise InvalidOwner(
            f"PROVIDER_LOADER returns another client or server for {row.provider!r} and this owner. The "
            "owner must connect the account."
        )


def _servers(provider: Provider) -> tuple[Any, ...]:
    names = ("client_id", "issuer", "token_endpoint", "revocation_endpoint", "userinfo_endpoint")
    return (*(getattr(provider, name) for name in names), provider.api_base_url, provider.api_hosts)


# --- rows that do not agree -------------------------------------------------------------------------


def mismatched(model: type[R], alias: str) -> Iterator[R]:
    """Yield the rows whose owner and user do not agree. Reads a large part of the table."""
    rows = rows_of(model, alias).filter(Q(user__isnull=False) | Q(owner__startswith=USER))
    if isinstance(get_user_model()._meta.pk, IntegerField):
        # Its text is the same on every database, so the database can leave out the rows that agree.
        key = Concat(Value(USER), Cast(F("user_id"), CharField(max_length=32)), output_field=CharField())
        rows = rows.exclude(user__isnull=False, owner=key)
    for row in rows.only("pk", "owner", "user").iterator():
        if not row.owner_agrees:
            yield row


def repair(model: type[ConnectionRow], pk: Any, alias: str, *, dry_run: bool = False) -> Repair:
    """Let the owner and the user of a row agree, in favour of the user, and return what was done.

    A row that was stored for another owner, together with a user, loses the user.
    """
    with transaction.atomic(using=alias):
        row = rows_of(model, alias).filter(pk=pk).first() if dry_run else _locked(model, pk, alias)
        if row is None or row.owner_agrees:
            return "unchanged"
        was_without = row.user_id is None
        owner, user_id = _rightful(row)
        if user_id is not None:
            stored = _stored_id(user_id, alias)
            if stored is None or (was_without and stored != user_id):
                return "no_user"
            owner, user_id = key_of_id(stored), stored
        try:
            if dry_run:
                _check_free(rows_of(model, alias), row, row.computed_identity(owner))
            else:
                _write(row, owner, user_id, alias)
        except AlreadyConnected:
            return "already_connected"
    if user_id is None:
        return "user_removed"
    return "user_added" if was_without else "owner_corrected"


def _rightful(row: ConnectionRow) -> tuple[str, Any]:
    """Return the owner's key and the user's primary key that a row should have."""
    if row.user_id is None:
        user_id = user_id_of(row.owner)
        return key_of_id(user_id), user_id
    if not row.owner.startswith(USER) and row.identity == row.computed_identity():
        return row.owner, None
    return key_of_id(row.user_id), row.user_id


def _stored_id(user_id: Any, alias: str) -> Any:
    """Return a user's primary key as its row spells it, or None. MariaDB finds "Bob" for "bob"."""
    users = get_user_model()._base_manager.using(alias)
    return users.filter(pk=user_id).values_list("pk", flat=True).first()


def prepare_raw(row: ConnectionRow, alias: str) -> None:
    """Prepare a row that a fixture or a version of another package will save as it is.

    Its owner follows its user, whose primary key may be another here. Over an existing row, the columns of
    the refresh protocol keep their present values: those of the copy may hold a spent token.
    """
    if row.user_id is not None:
        row.owner, row.user_id = _rightful(row)
    row.identity = row.computed_identity()
    present = rows_of(type(row), alias).filter(pk=row.id)
    if connections[alias].in_atomic_block:
        present = present.select_for_update()
    for name, value in (present.values(*PROTOCOL_COLUMNS).first() or {}).items():
        setattr(row, name, value)
