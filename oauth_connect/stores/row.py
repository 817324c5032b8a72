"""Stores a token in a database row.

Every write is one conditional UPDATE through a plain QuerySet. ``Model.save()`` is never used: it writes the
old values of a stale instance, and inserts deleted rows again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any, Protocol, TypeVar

from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connections,
    router,
)
from django.db.models import Case, F, Model, Q, QuerySet, Value, When

from oauth_connect import crypto
from oauth_connect.engine.client_credentials import CLIENT_CREDENTIALS
from oauth_connect.engine.store import ACTIVE, REAUTHORIZATION_REQUIRED, REVOKED, Event, LeaseState, Row
from oauth_connect.errors import ConnectionLocked, OwnerMismatch
from oauth_connect.protocol.token import Token
from oauth_connect.stores.columns import (
    COLUMNS,
    OPENED,
    UNLEASED,
    error_columns,
    free_lease,
    lease_columns,
    leased,
    opened_token,
    saved_columns,
    table_of,
    token_columns,
    usable,
)
from oauth_connect.stores.connection_state import State, hidden, read_state, restore_state
from oauth_connect.stores.lock_timeouts import LockWait, commits_by_itself, is_conflict, is_locked, lock_wait
from oauth_connect.stores.transactions import Placement, own_connection, own_transaction, placement
from oauth_connect.stores.uncommitted import own_insert

T = TypeVar("T")
logger = logging.getLogger("oauth_connect.stores")

CLAIM_WAIT = 2.0
SAVE_WAIT = 20.0
SAVE_PAUSES = (0.1, 0.3, 1.0, 2.0, 4.0)
FOLLOW_UP_SECONDS = 60.0
# Any database error: a host that has become read-only raises no OperationalError. ConnectionLocked: no own
# connection becomes free.
UNAVAILABLE = (DatabaseError, InterfaceError, ConnectionLocked)
NOT_SAVED = (
    "oauth_connect: the provider has issued a new token, and it could not be saved. After the lease has "
    "expired, the next refresh shows whether the old token still works."
)


@dataclass(frozen=True, slots=True)
class StoredRow(Row):
    """A Row with its raw columns."""

    columns: Mapping[str, Any]


class OnOrphan(Protocol):
    """Takes an orphaned token, as ``TokenStore.orphaned`` does."""

    def __call__(self, token: Token, *, account_changed: bool = False) -> None: ...


def _locked() -> ConnectionLocked:
    return ConnectionLocked(
        "An open transaction locks this connection's row; nothing was sent. "
        "Refresh before the transaction changes the row, or after it."
    )


class RowStore:
    """The TokenStore of one saved instance. ``on_event`` gets events, ``on_orphan`` gets orphaned tokens.

    ``placed``: where its statements run. By default the caller's transaction decides. ``state``: of the
    caller's database connection; by default it is read once, when it is first needed.
    """

    def __init__(
        self,
        row: Any,
        *,
        on_event: Callable[[Event], None],
        on_orphan: OnOrphan,
        placed: Placement | None = None,
        state: State | None = None,
    ) -> None:
        self.row = row
        self.model: type[Model] = table_of(type(row))
        # Not ``row.pk``: a multi-table child may have a primary key of its own.
        self.pk = getattr(row, self.model._meta.pk.attname)
        self.alias = router.db_for_write(self.model, instance=row)
        self.announce = on_event
        self.orphaned = on_orphan
        self._placement = placed or placement(self.alias)
        self._given_state = state

    @cached_property
    def state(self) -> State:
        """The state of the caller's database connection. Raises what the site's function raises."""
        return read_state(self.alias) if self._given_state is None else self._given_state

    @property
    def key(self) -> Hashable:
        return (self.alias, self.model._meta.label_lower, self.pk, self.state)

    def read(self) -> StoredRow | None:
        """Return the row. Raises ConnectionHidden if it is committed, but only the caller sees it."""
        values = self._visible(self._values)
        if values is None and self._placement is Placement.OWN_CONNECTION and self._is_uncommitted():
            # The caller has not committed the insert yet. So row and token are committed together.
            self._placement = Placement.CALLER
            values = self._run(CLAIM_WAIT, self._values)
        if values is None:
            return None
        check_owner(self.row, values)
        return self._stored(values)

    def _visible(self, statement: Callable[[str], T | None]) -> T | None:
        try:
            return self._run(CLAIM_WAIT, statement)
        except OperationalError as error:  # MariaDB with SERIALIZABLE: a read waits for a lock, too
            if self._placement is not Placement.OWN_CONNECTION or not is_locked(error):
                raise
            raise _locked() from error
        except ProgrammingError:
            if self._placement is not Placement.OWN_CONNECTION:
                raise
            return None  # no such table in the schema of the copy, or no right to read it

    def _is_uncommitted(self) -> bool:
        """Return whether a row that other connections cannot see is an insert of the caller's.

        It may also be deleted while the caller's snapshot still shows it (REPEATABLE READ). A lock on the row
        succeeds only in the first case.
        """
        try:
            inserted = own_insert(self._rows(self.alias), same_database=bool(self.state))
        except OperationalError as error:
            if not is_conflict(error):
                raise
            return False
        if inserted is False:
            raise hidden()
        return inserted is True

    def peek(self) -> LeaseState | None:
        state = self._visible(self._peek)
        return None if state is None else LeaseState(*state)

    def claim(self, seen: Row, owner: str, seconds: float) -> bool:
        def statement(alias: str) -> int:
            unchanged = {"version": seen.version, "status": seen.status, "failures": seen.failures}
            rows = self._rows(alias, free_lease(), LockWait(CLAIM_WAIT), **unchanged)
            return rows.update(**lease_columns(owner, seconds))

        try:
            return bool(self._run(CLAIM_WAIT, statement))
        except OperationalError as error:
            if is_conflict(error):
                return False  # another transaction's write came first
            if not is_locked(error):
                raise
        raise _locked()

    def check_writable(self) -> None:
        crypto.check_sealing()

    def save(
        self,
        seen: Row,
        owner: str,
        token: Token,
        refresh_at: datetime | None,
        *,
        failure: str = "",
        reason: str = "",
    ) -> Row | None:
        assert isinstance(seen, StoredRow)  # noqa: S101  (it came from read)
        columns = token_columns(self.row, token, refresh_at)
        if failure:
            columns |= {"failures": seen.failures + 1, **_error_after(seen, failure)}
        if reason:
            columns |= {"status": REAUTHORIZATION_REQUIRED, **_error_after(seen, reason)}

        def statement(alias: str) -> StoredRow | None:
            return self._save(alias, seen, owner, token, columns)

        try:
            saved = self._persist(statement)
        except UNAVAILABLE as error:
            logger.exception("a token could not be saved", extra={"action": "save_lost"})
            error.add_note(NOT_SAVED)
            raise
        if saved is not None and self._placement is Placement.CALLER_THEN_REPEAT:
            self._repeat_after_transaction(statement, _token_lost)
        return saved

    def defer(self, seen: Row, owner: str, *, code: str, until: datetime, in_doubt: bool) -> None:
        freed: dict[str, Any] = {**UNLEASED, "updated_at": datetime.now(UTC)}
        if in_doubt:
            freed["in_doubt"] = True
        failed = {"failures": F("failures") + 1, **error_columns(code), "refresh_at": until, **freed}

        def statement(alias: str) -> int:
            mine = self._rows(alias, LockWait(SAVE_WAIT), lease_owner=owner)
            # Another version has another token, which has not failed. Only release the lease.
            return mine.filter(version=seen.version).update(**failed) or mine.update(**freed)

        self._persist(statement)
        own = Case(When(lease_owner=owner, then=Value("")), default=F("lease_owner"))
        self._record_outcome(seen, {**failed, "lease_owner": own})

    def _record_outcome(self, seen: Row, changes: Mapping[str, Any], *conditions: Q) -> None:
        """On SQLite, record the outcome of an attempt again after the caller's transaction.

        The error that is raised usually rolls that transaction back. After a commit the row differs from
        ``seen``, and nothing is written.
        """
        if self._placement is not Placement.CALLER_THEN_REPEAT:
            return
        unchanged = {"version": seen.version, "failures": seen.failures, "status": seen.status}
        self._repeat_after_transaction(
            lambda alias: self._rows(alias, *conditions, **unchanged).update(**changes), _outcome_lost
        )

    def defer_unstarted(self, version: int, failures: int, until: datetime) -> None:
        """Move ``refresh_at`` of a row whose refresh could not begin.

        Change nothing else: a caller that needs the token earlier may try.
        """

        def statement(alias: str) -> int:
            wait = LockWait(CLAIM_WAIT)
            seen = self._rows(alias, wait, version=version, failures=failures, status=ACTIVE)
            return seen.update(refresh_at=until, updated_at=datetime.now(UTC))

        self._run(CLAIM_WAIT, statement)

    def mark(self, seen: Row, owner: str, reason: str) -> bool:
        marked = {
            "status": REAUTHORIZATION_REQUIRED,
            **error_columns(reason),
            "refresh_at": None,
            "updated_at": datetime.now(UTC),
            **UNLEASED,
        }

        def statement(alias: str) -> int:
            mine = self._rows(alias, LockWait(SAVE_WAIT), version=seen.version, lease_owner=owner)
            return mine.update(**marked)

        done = bool(self._persist(statement))
        if done:
            # Not while another process holds a lease: it will record its own outcome.
            self._record_outcome(seen, marked, free_lease() | Q(lease_owner=owner))
        return done

    def release(self, owner: str) -> None:
        def statement(alias: str) -> int:
            return self._rows(alias, LockWait(SAVE_WAIT), lease_owner=owner).update(**UNLEASED)

        self._persist(statement)

    def outside_transaction(
        self,
        statement: Callable[[str], None],
        on_failure: Callable[[Exception], None],
        *,
        also_now: bool = False,
    ) -> None:
        """Run a statement where a save would run, so that a rollback of the caller does not undo it.

        On SQLite, inside a transaction, a thread runs it afterwards. ``also_now``: run it immediately too,
        because the caller reads the result. ``on_failure`` gets the error if it never succeeds.
        """
        if self._placement is Placement.CALLER_THEN_REPEAT:
            if also_now:
                statement(self.alias)
            self._repeat_after_transaction(statement, on_failure)
        else:
            self._run(CLAIM_WAIT, statement)

    def refreshed_another(self, client_id: str, since: datetime) -> bool:
        """Return whether another row of this provider and client was refreshed after a time.

        A client's own tokens do not count: no refresh token is sent for them.
        """

        def statement(alias: str) -> bool:
            same: QuerySet[Any] = QuerySet(self.model, using=alias).filter(
                provider=self.row.provider, client_id=client_id, last_refreshed_at__gt=since
            )
            others = same.filter(failures=0).exclude(pk=self.pk)
            return others.exclude(grant=CLIENT_CREDENTIALS).exists()

        return self._run(CLAIM_WAIT, statement)

    def adopt(self, row: Row) -> None:
        """Give the instance the row's columns, also its variables: another process may have moved it."""
        if isinstance(row, StoredRow):
            self.row.__dict__.update(row.columns)
            if row.token is not None:
                self.row.__dict__[OPENED] = (row.columns["sealed_token"], row.token)

    def held(self, *, usable: bool = True) -> StoredRow:
        """Return the row as the instance remembers it. No query."""
        return self._stored(
            {**{name: getattr(self.row, name) for name in COLUMNS}, "leased": False, "usable": usable}
        )

    # --- statements -----------------------------------------------------------------------------

    def _rows(self, alias: str, *conditions: Q | LockWait, **lookups: Any) -> QuerySet[Any]:
        return QuerySet(self.model, using=alias).filter(*conditions, pk=self.pk, **lookups)

    def _values(self, alias: str) -> dict[str, Any] | None:
        rows = _reading(self.model).using(alias).filter(pk=self.pk)[:1]
        return next(iter(rows), None)

    def _peek(self, alias: str) -> tuple[int, str, int, bool] | None:
        rows = _peeking(self.model).using(alias).filter(pk=self.pk)[:1]
        return next(iter(rows), None)

    def _save(
        self, alias: str, seen: StoredRow, owner: str, token: Token, columns: Mapping[str, Any]
    ) -> StoredRow | None:
        mine = Q(lease_owner=owner)
        changes = saved_columns(columns, owner)
        if self._rows(alias, LockWait(SAVE_WAIT), version=seen.version).update(**changes):
            return self._after(seen, token, columns)
        if self._rows(alias, LockWait(SAVE_WAIT), mine).update(**changes):
            values = self._values(alias)
            return None if values is None else self._stored(values)
        return None

    def _after(self, seen: StoredRow, token: Token, columns: Mapping[str, Any]) -> StoredRow:
        """Return the row after these columns were saved over the version in ``seen``."""
        saved = {**seen.columns, **columns, "version": seen.version + 1, **UNLEASED}
        return self._stored({**saved, "leased": False, "usable": True}, token)

    def _stored(self, values: dict[str, Any], token: Token | None = None) -> StoredRow:
        computed = {name: values[name] for name in ("leased", "usable")}
        columns = {name: values[name] for name in (*COLUMNS, "variables") if name in values}
        if token is None and columns["sealed_token"] and columns["status"] != REVOKED:
            token = opened_token(self.row, columns["sealed_token"])
        names = (
            "version",
            "lease_owner",
            "failures",
            "status",
            "client_id",
            "redirect_uri",
            "in_doubt",
            "last_error",
            "error_since",
            "refresh_at",
        )
        return StoredRow(**{name: columns[name] for name in names}, token=token, **computed, columns=columns)

    # --- connections ----------------------------------------------------------------------------

    @contextmanager
    def _database(self, wait: float) -> Iterator[str]:
        if self._placement is Placement.OWN_CONNECTION:
            with own_connection(self.alias, wait, self.state) as alias:
                yield alias
        else:
            with lock_wait(self.alias, wait):
                yield self.alias

    def _run(self, wait: float, statement: Callable[[str], T]) -> T:
        with self._database(wait) as alias:
            return statement(alias)

    def _persist(self, statement: Callable[[str], T]) -> T:
        """Run a write that must not be lost. Repeat it a few times while the database is unavailable."""
        for pause in SAVE_PAUSES:
            try:
                return self._run_restored(statement)
            except UNAVAILABLE as error:
                if self._placement is not Placement.OWN_CONNECTION:
                    # Never close a connection inside the caller's transaction: Django would end it silently.
                    if not commits_by_itself(connections[self.alias]):
                        raise
                    if not is_locked(error):
                        # Close it even if it still answers: its host may have become read-only.
                        connections[self.alias].close()
                logger.warning("database failed while saving; trying again", extra={"action": "save_retried"})
                time.sleep(pause)
        return self._run_restored(statement)

    def _run_restored(self, statement: Callable[[str], T]) -> T:
        """Run a write. If an earlier try has closed the caller's connection, it gets its state back first."""
        if self._placement is not Placement.OWN_CONNECTION:
            restore_state(self.alias, self.state)
        return self._run(SAVE_WAIT, statement)

    def _repeat_after_transaction(
        self, statement: Callable[[str], Any], on_failure: Callable[[Exception], None]
    ) -> None:
        """Run a save again in a thread after the caller's transaction, in case that was rolled back.

        SQLite has one writer, so the thread waits for the caller. After a commit the version has moved and
        nothing is written. The thread is not a daemon: the interpreter waits for it.
        """
        alias, state = self.alias, self.state

        def write() -> None:
            deadline = time.monotonic() + FOLLOW_UP_SECONDS
            while True:
                try:
                    with own_transaction(alias, SAVE_WAIT, state) as private:
                        statement(private)
                    return
                except UNAVAILABLE as error:
                    if time.monotonic() > deadline:
                        on_failure(error)
                        return
                    time.sleep(0.05)

        threading.Thread(target=write, name=FOLLOW_UP_THREAD).start()


def check_owner(row: Model, values: Mapping[str, Any]) -> None:
    """Raise OwnerMismatch if a row has been given to another owner since the instance was loaded.

    ``values``: the present columns. Those that the instance has not loaded are not compared.
    """
    loaded, model = row.__dict__, table_of(type(row))
    for name in _ownership(model):
        field: Any = model._meta.get_field(name.removesuffix("_id"))
        if name in loaded and field.to_python(loaded[name]) != field.to_python(values[name]):
            raise OwnerMismatch(
                "The connection has another owner than when it was loaded. Nothing was sent. Load it again."
            )


def _error_after(seen: Row, code: str) -> dict[str, Any]:
    """Return the columns of an error that is saved with a token, as ``error_columns`` does."""
    code = code[:64]
    since = seen.error_since if seen.last_error == code else None
    return {"error_since": since or datetime.now(UTC), "last_error": code}


FOLLOW_UP_THREAD = "oauth_connect-follow-up"


def _token_lost(error: Exception) -> None:
    logger.error("a token could not be saved", exc_info=error, extra={"action": "save_lost"})


def _outcome_lost(error: Exception) -> None:
    logger.error(
        "the outcome of a refresh could not be recorded", exc_info=error, extra={"action": "outcome_lost"}
    )


@cache
def _ownership(model: type[Model]) -> tuple[str, ...]:
    """Return the columns that say whose row it is, if the model has them."""
    return _present(model, "owner", "user_id")


def _present(model: type[Model], *columns: str) -> tuple[str, ...]:
    names = {field.attname for field in model._meta.concrete_fields}
    return tuple(name for name in columns if name in names)


# Built once: expressions are a large part of the cost of a read, and waiting callers read often.
@cache
def _reading(model: type[Model]) -> QuerySet[Any, dict[str, Any]]:
    names = (*COLUMNS, *_present(model, "variables"), *_ownership(model))
    return QuerySet(model).values(*names, leased=leased(), usable=usable(model))


@cache
def _peeking(model: type[Model]) -> QuerySet[Any, tuple[Any, ...]]:
    return QuerySet(model).values_list("version", "lease_owner", "failures", leased())
