"""Claims the leases of many rows, and saves many tokens, in few statements."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from django.db import OperationalError, connections, transaction
from django.db.models import Case, Expression, F, Field, Model, Q, QuerySet, Value, When
from django.db.models.sql import UpdateQuery

from oauth_connect.stores.columns import (
    HEALTHY,
    TOKEN_COLUMNS,
    free_lease,
    lease_columns,
    saved_columns,
    usable,
)
from oauth_connect.stores.lock_timeouts import (
    LockWait,
    bounded_transaction,
    is_locked,
    lock_wait,
    locking,
    retried,
)

T = TypeVar("T")
READ_BATCH = 50  # claimed rows that one statement reads, because saves wait for the connection meanwhile
ROW_WAIT = 0.5  # seconds to wait for a locked row, while other callers wait for this connection


@dataclass(frozen=True, slots=True)
class Claimed:
    """A row as read after its lease was claimed.

    ``claimed_at``: the monotonic clock's time before the claim. ``due_at``: its former ``refresh_at``.
    """

    row: Any
    version: int
    owner: str
    claimed_at: float
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Leases:
    """The leases that one claim took.

    ``due_at``: the former ``refresh_at`` by primary key; other runs may have claimed some of these rows.
    ``count``: how many this claim got. ``exhausted``: fewer were due than were requested.
    """

    model: type[Model]
    alias: str
    owner: str
    claimed_at: float
    due_at: Mapping[Any, datetime]
    count: int
    exhausted: bool

    @property
    def parts(self) -> Iterator[Sequence[Any]]:
        """The primary keys in parts of READ_BATCH, the longest due first."""
        keys = tuple(self.due_at)
        return (keys[start : start + READ_BATCH] for start in range(0, len(keys), READ_BATCH))

    def rows(self, keys: Iterable[Any]) -> QuerySet[Any]:
        """Return the claimed rows of these keys, as the connection of this thread sees them."""
        plain: QuerySet[Any] = QuerySet(self.model, using=self.alias)
        return plain.filter(pk__in=keys, lease_owner=self.owner)


def claim_due(
    due: QuerySet[Any], at_most: int, *, seconds: float, retry_at: datetime, index: str = ""
) -> Leases:
    """Claim the leases of the rows that are due longest. Skip rows that are leased or locked.

    ``seconds``: the length of the leases. ``retry_at``: when a claimed row is due again, so that a row that
    crashes its worker does not block the queue. ``index``: the index of the due rows, in their order.
    """
    # A plain QuerySet: the queryset's own class refuses to update the columns of the protocol.
    rows: QuerySet[Any] = QuerySet(due.model, query=due.query.chain(), using=due.db)
    claim = partial(_claim, rows.filter(free_lease()), at_most, seconds, retry_at, index)
    return retried(due.db, claim)


def _claim(rows: QuerySet[Any], at_most: int, seconds: float, retry_at: datetime, index: str) -> Leases:
    alias = rows.db
    owner = uuid.uuid4().hex
    claimed_at = time.monotonic()
    plain: QuerySet[Any] = QuerySet(rows.model, using=alias)
    with locking(alias):
        chosen = rows.order_by("refresh_at", "pk").values_list("pk", "refresh_at")
        locked = connections[alias].features.has_select_for_update_skip_locked
        if locked:
            chosen = chosen.select_for_update(skip_locked=True)
        with _read_by(index, rows.model, alias):
            due_at = dict(chosen[:at_most])
        count = 0
        if due_at:
            # Locked rows are updated by key only. Otherwise MariaDB would search the index of due rows, lock
            # other rows there, and cause deadlocks with their saves.
            to_claim = (plain if locked else rows).filter(pk__in=due_at)
            count = to_claim.update(**lease_columns(owner, seconds), refresh_at=retry_at)
    return Leases(rows.model, alias, owner, claimed_at, due_at, count, exhausted=len(due_at) < at_most)


def read_claimed(leases: Leases, keys: Iterable[Any]) -> list[Claimed]:
    """Return the claimed rows of these keys that the connection of this thread sees, the longest due first.

    They are read after the claim: from here on, only a reconnect or a disconnect changes the token.
    """
    # Django asks for MariaDB's version to compile a statement. It would open a connection for that alone.
    connections[leases.alias].ensure_connection()
    rows = leases.rows(keys).annotate(usable=usable(leases.model))
    claimed = [
        Claimed(row, row.version, leases.owner, leases.claimed_at, leases.due_at[row.pk]) for row in rows
    ]
    return sorted(claimed, key=lambda claim: claim.due_at)


def free_hidden(leases: Leases, seen: Sequence[Claimed]) -> int:
    """Release the leases of claimed rows that another connection did not see, and return their number.

    They are due at their former time again. A row that was reconnected meanwhile has lost its lease. If one
    of them is locked, their leases expire.
    """
    hidden = leases.rows(leases.due_at).exclude(pk__in=[claim.row.pk for claim in seen])
    due_at = Case(*(When(pk=pk, then=Value(moment)) for pk, moment in leases.due_at.items()))
    try:
        with lock_wait(leases.alias, ROW_WAIT):
            return hidden.filter(LockWait(ROW_WAIT)).update(lease_owner="", refresh_at=due_at)
    except OperationalError as error:
        if not is_locked(error):
            raise
    return hidden.count()


def release_claims(claimed: Sequence[Claimed]) -> None:
    """Release leases under which nothing was sent. The rows are due at their former time again.

    A locked row is skipped. Its lease expires.
    """
    for claim in claimed:
        alias = claim.row._state.db
        rows: QuerySet[Any] = QuerySet(type(claim.row), using=alias)
        mine = rows.filter(LockWait(ROW_WAIT), pk=claim.row.pk, lease_owner=claim.owner)
        # If the token has changed since the claim, keep the new token's refresh_at.
        due_at = Case(When(version=claim.version, then=Value(claim.due_at)), default=F("refresh_at"))
        try:
            with lock_wait(alias, ROW_WAIT):
                mine.update(lease_owner="", refresh_at=due_at)
        except OperationalError as error:
            if not is_locked(error):
                raise


@contextmanager
def _read_by(index: str, model: type[Model], alias: str) -> Iterator[None]:
    """Make MariaDB read the due rows through the given index.

    If many rows are due, MariaDB would otherwise begin at the provider's first entry. It would then read all
    rows that are never due (NULL).
    """
    connection = connections[alias]
    if not index or connection.vendor != "mysql":
        yield
        return
    quoted = connection.ops.quote_name
    table = f"FROM {quoted(model._meta.db_table)}"

    def hinted(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        return execute(sql.replace(table, f"{table} FORCE INDEX ({quoted(index)})", 1), *rest)

    with connection.execute_wrapper(hinted):
        yield


# --- saving ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Save:
    """A new token's columns, with the row, version and lease owner of its claim."""

    pk: Any
    version: int
    owner: str
    columns: Mapping[str, Any]


class Slot(Expression):
    """A placeholder in a statement that is compiled once and runs with the values of many rows."""

    def __init__(self, name: str, field: Field[Any, Any]) -> None:
        super().__init__(output_field=field)
        self.name = name
        # The site's users may have a primary key whose Python type no database driver knows.
        self.prepared = not field.is_relation and field.model._meta.app_label == "oauth_connect"

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return "%s", [self]


def filled(parameters: Sequence[Any], values: Mapping[str, Any], connection: Any) -> list[Any]:
    """Return the parameters of a compiled statement, with the row's value in place of each slot.

    The values of our columns have the types of their fields already ("prepared"): half of the time is saved.
    """
    return [
        parameter.output_field.get_db_prep_value(
            values[parameter.name], connection, prepared=parameter.prepared
        )
        if isinstance(parameter, Slot)
        else parameter
        for parameter in parameters
    ]


class Saves:
    """Saves many tokens with one compiled statement, on the version condition of ``RowStore.save``."""

    def __init__(self, model: type[Model], alias: str) -> None:
        names = TOKEN_COLUMNS
        fields: dict[str, Any] = {
            name: model._meta.get_field(name) for name in (*names, "version", "lease_owner")
        }
        slots = {name: Slot(name, fields[name]) for name in names}
        pk = Slot("pk", model._meta.pk)
        owner = Slot("owner", fields["lease_owner"])
        seen = Q(pk=pk, version=Slot("version", fields["version"]))
        rows: QuerySet[Any] = QuerySet(model, using=alias).filter(seen)
        query: Any = rows.query.chain(UpdateQuery)
        query.add_update_values(saved_columns({**slots, **HEALTHY}, owner))
        self.alias = alias
        self.sql, self.parameters = query.get_compiler(using=alias).as_sql()

    def run(self, saves: Sequence[Save]) -> bool:
        """Save all tokens in one transaction. Save none and return False if a row has another version."""
        connection = connections[self.alias]
        ordered = sorted(saves, key=lambda save: str(save.pk))  # so that two runs cannot deadlock
        with bounded_transaction(self.alias, ROW_WAIT), connection.cursor() as cursor:
            cursor.executemany(self.sql, [self._values(save, connection) for save in ordered])
            complete: bool = cursor.rowcount == len(saves)
            if not complete:
                transaction.set_rollback(True, using=self.alias)
        return complete

    def _values(self, save: Save, connection: Any) -> list[Any]:
        values = {"pk": save.pk, "version": save.version, "owner": save.owner, **save.columns}
        return filled(self.parameters, values, connection)
