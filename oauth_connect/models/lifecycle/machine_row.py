"""The row of a machine token: the site's own token, one row for each distinct request of a client.

The row is inserted without a token. The first caller that claims its lease fills it. ``identity`` is unique:
of many callers that insert at the same time one wins, and the others read its row.
"""

from __future__ import annotations

from typing import cast

from django.db import IntegrityError, OperationalError, router, transaction
from django.db.models import QuerySet

from oauth_connect.errors import ConnectionLocked
from oauth_connect.models.owner import MACHINE
from oauth_connect.models.row import R, rows_of
from oauth_connect.stores.columns import OPENED, table_of
from oauth_connect.stores.lock_timeouts import MAX_TRIES, is_deadlock, is_locked
from oauth_connect.stores.row import CLAIM_WAIT
from oauth_connect.stores.transactions import outside_transaction
from oauth_connect.stores.whole_rows import rows_where

DESCRIPTION = (
    "owner",
    "provider",
    "grant",
    "client_id",
    "requested_scopes",
    "resource",
    "audience",
    "account_label",
    "variables",
)


def owner_key(provider: str) -> str:
    return f"{MACHINE}{provider}"


def find_or_insert(wanted: R) -> R:
    """Return the row that an unsaved instance describes: the stored one, or this one, inserted.

    ``provider``, ``client_id``, ``requested_scopes`` (sorted), ``resource`` and ``audience`` identify it.
    Raises ConnectionLocked.
    """
    wanted.identity = wanted.computed_identity()
    # Read from the primary. A replica that lags would show no row, and it would be inserted again.
    alias = router.db_for_write(type(wanted), instance=wanted)
    return _find(wanted, alias) or _insert(wanted, alias)


def recreate_row(row: R) -> bool:
    """Insert the row of an instance again after it was deleted. Return False where the row still exists."""
    alias = router.db_for_write(type(row), instance=row)
    if outside_transaction(alias, CLAIM_WAIT, lambda own: _rows(row, own).filter(pk=row.id).exists()):
        return False
    present = find_or_insert(type(row)(**{name: getattr(row, name) for name in DESCRIPTION}))
    row.__dict__.pop(OPENED, None)
    row.__dict__.update({f.attname: getattr(present, f.attname) for f in present._meta.concrete_fields})
    return True


def _rows(row: R, alias: str) -> QuerySet[R]:
    return rows_of(type(row), alias)


def _find(wanted: R, alias: str) -> R | None:
    model = cast("type[R]", table_of(type(wanted)))
    return next(iter(rows_where(model, alias, identity=wanted.identity)), None)


def _insert(wanted: R, alias: str) -> R:
    for _ in range(MAX_TRIES):
        try:
            present = _inserted_or_found(wanted, alias)
        except OperationalError as error:
            # MariaDB: where a row of this identity was deleted shortly before, inserts wait for each other.
            if is_deadlock(error):
                continue
            if is_locked(error):
                break
            raise
        if present is not None:
            present._state.db = alias
            return present
    raise ConnectionLocked(
        "An open transaction locks the row of a machine token; nothing was sent. Try again."
    )


def _inserted_or_found(wanted: R, alias: str) -> R | None:
    def insert(own: str) -> bool:
        try:
            with transaction.atomic(using=own):
                wanted.save(force_insert=True, using=own)
        except IntegrityError:
            return False
        return True

    if outside_transaction(alias, CLAIM_WAIT, insert):
        return wanted
    # In a new transaction: the snapshot of the one that failed may not show the winner's row.
    return outside_transaction(alias, CLAIM_WAIT, lambda own: _find(wanted, own))
