"""The row of a machine token: the site's own, one for each thing that a client asks for.

It is inserted empty; who leases it first fills it. Its identity is unique, so of many who insert at once
one wins, and the others read the winner's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from django.db import IntegrityError, OperationalError, router, transaction
from django.db.models import QuerySet

from oauth_connect.errors import ConnectionLocked
from oauth_connect.models.owner import MACHINE
from oauth_connect.models.querysets import identity_of
from oauth_connect.stores.placement import Placement, aside, is_locked, placement
from oauth_connect.stores.row import CLAIM_WAIT

if TYPE_CHECKING:
    from oauth_connect.models.connection import Connection

T = TypeVar("T")


def owner_key(provider: str) -> str:
    return f"{MACHINE}{provider}"


def stored(wanted: Connection) -> Connection:
    """Return the row for what an unsaved instance describes: the one that is there, or this one, inserted.

    ``provider``, ``client_id``, ``requested_scopes`` (sorted), ``resource`` and ``audience`` tell two apart.
    """
    wanted.identity = identity_of(
        wanted.owner,
        wanted.provider,
        wanted.grant,
        wanted.client_id,
        wanted.requested_scopes,
        wanted.resource,
        wanted.audience,
    )
    # Never from a replica: what it has not heard of yet would be inserted again.
    alias = router.db_for_write(type(wanted), instance=wanted)
    return _found(wanted, alias) or _inserted(wanted, alias)


def put_back(connection: Connection) -> bool:
    """Make an instance live again whose row has been deleted; False where the row is there."""
    alias = router.db_for_write(type(connection), instance=connection)
    if run(alias, lambda private: _rows(connection, private).filter(pk=connection.pk).exists()):
        return False
    kept = ("owner", "provider", "grant", "client_id", "requested_scopes", "resource", "audience")
    described = {name: getattr(connection, name) for name in (*kept, "account_label", "variables")}
    present = stored(type(connection)(**described))
    connection.__dict__.pop("_opened", None)
    connection.__dict__.update(
        {f.attname: getattr(present, f.attname) for f in present._meta.concrete_fields}
    )
    return True


def _found(wanted: Connection, alias: str) -> Connection | None:
    return _rows(wanted, alias).filter(identity=wanted.identity).first()


def _rows(row: Connection, alias: str) -> QuerySet[Connection]:
    return QuerySet(type(row), using=alias)


def _inserted(wanted: Connection, alias: str) -> Connection:
    def insert(place: str) -> bool:
        try:
            with transaction.atomic(using=place):
                wanted.save(force_insert=True, using=place)
        except IntegrityError:
            return False
        return True

    try:
        if run(alias, insert):
            present: Connection | None = wanted
        else:
            # By a transaction of its own: the one that lost may not see the winner's row.
            present = run(alias, lambda place: _found(wanted, place))
    except OperationalError as error:
        if not is_locked(error):
            raise
        present = None
    if present is None:
        raise ConnectionLocked(
            "The row of a machine token is locked by an open transaction; nothing was sent. Try again."
        )
    present._state.db = alias
    return present


def run(alias: str, statement: Callable[[str], T]) -> T:
    """Run a statement where the caller's transaction does not decide: others wait for the row."""
    if placement(alias) is Placement.ASIDE:
        with aside(alias, CLAIM_WAIT) as place:
            return statement(place)
    return statement(alias)
