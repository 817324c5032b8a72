"""A token in a database row.

Every write here is one conditional UPDATE through a plain QuerySet. ``Model.save()`` is never
used: it writes what a stale instance remembers, and brings deleted rows back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError, connections, router, transaction
from django.db.models import Case, F, Model, Q, QuerySet, Value, When

from oauth_connect import crypto
from oauth_connect.engine.store import ACTIVE, REAUTHORIZATION_REQUIRED, REVOKED, Event, Glance, Row
from oauth_connect.errors import ConnectionLocked
from oauth_connect.protocol.token import Token
from oauth_connect.stores.columns import (
    COLUMNS,
    UNLEASED,
    free_lease,
    lease_columns,
    leased,
    open_token,
    saved_columns,
    token_columns,
    usable,
)
from oauth_connect.stores.placement import (
    Placement,
    aside,
    is_conflict,
    is_locked,
    own_transaction,
    placement,
)
from oauth_connect.stores.waits import LockWait, commits_by_itself, lock_wait

T = TypeVar("T")
logger = logging.getLogger("oauth_connect.stores")

CLAIM_WAIT = 2.0
SAVE_WAIT = 20.0
SAVE_PAUSES = (0.1, 0.3, 1.0, 2.0, 4.0)
FOLLOW_UP_SECONDS = 60.0
# Whatever the database says: a host that has become read-only is no OperationalError. Or no connection of
# one's own gets free (ConnectionLocked).
AWAY = (DatabaseError, InterfaceError, ConnectionLocked)
NOT_SAVED = (
    "oauth_connect: the provider has issued a new token, and it could not be saved. The next refresh, "
    "once the lease has run out, finds out whether the old one still works."
)


@dataclass(frozen=True, slots=True)
class StoredRow(Row):
    """A Row with the raw columns it was made from."""

    columns: Mapping[str, Any]


class RowStore:
    """The TokenStore of one saved instance. ``tell`` hears events, ``bury`` gets orphaned tokens.

    ``placed``: where its statements run; by default as the transaction that the caller is in demands.
    """

    def __init__(
        self,
        row: Any,
        *,
        tell: Callable[[Event], None],
        bury: Callable[[Token], None],
        placed: Placement | None = None,
    ) -> None:
        self.row = row
        self.model: type[Model] = type(row)
        self.alias = router.db_for_write(self.model, instance=row)
        self.announce = tell
        self.orphaned = bury
        self._placement = placed or placement(self.alias)

    @property
    def key(self) -> Hashable:
        return (self.alias, self.model._meta.label_lower, self.row.pk)

    def read(self) -> StoredRow | None:
        values = self._run(CLAIM_WAIT, self._values)
        if values is None and self._placement is Placement.ASIDE and self._is_uncommitted():
            # Row and token share one fate.
            self._placement = Placement.DIRECT
            values = self._run(CLAIM_WAIT, self._values)
        return None if values is None else self._stored(values)

    def _is_uncommitted(self) -> bool:
        """Tell whether a row that is not visible from outside is the caller's own.

        It may also be gone, and the caller's snapshot still shows it (REPEATABLE READ): a lock needs the row.
        """
        try:
            with transaction.atomic(using=self.alias):
                return bool(self._rows(self.alias).select_for_update().values_list("pk"))
        except OperationalError as error:
            if not is_conflict(error):
                raise
            return False

    def glance(self) -> Glance | None:
        found = self._run(CLAIM_WAIT, self._glance)
        return None if found is None else Glance(*found)

    def claim(self, seen: Row, owner: str, seconds: float) -> bool:
        def statement(alias: str) -> int:
            unchanged = {"version": seen.version, "status": seen.status, "failures": seen.failures}
            rows = self._rows(alias, free_lease(), LockWait(CLAIM_WAIT), **unchanged)
            return rows.update(**lease_columns(owner, seconds))

        try:
            return bool(self._run(CLAIM_WAIT, statement))
        except OperationalError as error:
            if is_conflict(error):
                return False  # somebody else's write came first; look again
            if not is_locked(error):
                raise
        raise ConnectionLocked(
            "This connection's row is locked by an open transaction; nothing was sent. "
            "Refresh before the transaction changes the row, or after it."
        )

    def prove(self) -> None:
        crypto.prove()

    def save(self, seen: Row, owner: str, token: Token, refresh_at: datetime | None) -> Row | None:
        assert isinstance(seen, StoredRow)  # noqa: S101  (it came from read)
        columns = token_columns(self.row, token, refresh_at)

        def statement(alias: str) -> StoredRow | None:
            return self._save(alias, seen, owner, token, columns)

        try:
            saved = self._persist(statement)
        except AWAY as error:
            logger.exception("a token could not be saved", extra={"action": "save_lost"})
            error.add_note(NOT_SAVED)
            raise
        if saved is not None and self._placement is Placement.FOLLOWED:
            self._follow_up(statement, _token_lost)
        return saved

    def postpone(self, seen: Row, owner: str, *, code: str, until: datetime, in_doubt: bool) -> None:
        freed: dict[str, Any] = {**UNLEASED, "updated_at": datetime.now(UTC)}
        if in_doubt:
            freed["in_doubt"] = True
        failed = {"failures": F("failures") + 1, "last_error": code[:64], "refresh_at": until, **freed}

        def statement(alias: str) -> int:
            mine = self._rows(alias, LockWait(SAVE_WAIT), lease_owner=owner)
            # Another token by now: the failure was not its own, but the lease must not stay.
            return mine.filter(version=seen.version).update(**failed) or mine.update(**freed)

        self._persist(statement)
        own = Case(When(lease_owner=owner, then=Value("")), default=F("lease_owner"))
        self._found_out(seen, {**failed, "lease_owner": own})

    def _found_out(self, seen: Row, changes: Mapping[str, Any], *conditions: Q) -> None:
        """On SQLite: what a try found out is true whatever becomes of the caller's transaction.

        The very error that tells of it rolls that back, as a rule. After a commit the row is no longer as
        it was seen, and nothing happens.
        """
        if self._placement is not Placement.FOLLOWED:
            return
        unchanged = {"version": seen.version, "failures": seen.failures, "status": seen.status}
        self._follow_up(
            lambda alias: self._rows(alias, *conditions, **unchanged).update(**changes), _outcome_lost
        )

    def defer(self, version: int, failures: int, until: datetime) -> None:
        """Move the next try of a row with which a refresh could not even begin.

        Nothing else is touched: who needs the token before may try, and a refresh under way says better.
        """

        def statement(alias: str) -> int:
            wait = LockWait(CLAIM_WAIT)
            seen = self._rows(alias, wait, version=version, failures=failures, status=ACTIVE)
            return seen.update(refresh_at=until, updated_at=datetime.now(UTC))

        self._run(CLAIM_WAIT, statement)

    def mark(self, seen: Row, owner: str, reason: str) -> bool:
        marked = {
            "status": REAUTHORIZATION_REQUIRED,
            "last_error": reason,
            "refresh_at": None,
            "updated_at": datetime.now(UTC),
            **UNLEASED,
        }

        def statement(alias: str) -> int:
            mine = self._rows(alias, LockWait(SAVE_WAIT), version=seen.version, lease_owner=owner)
            return mine.update(**marked)

        done = bool(self._persist(statement))
        if done:
            # Unless somebody else is at it by then: they find out for themselves.
            self._found_out(seen, marked, free_lease() | Q(lease_owner=owner))
        return done

    def release(self, owner: str) -> None:
        def statement(alias: str) -> int:
            return self._rows(alias, LockWait(SAVE_WAIT), lease_owner=owner).update(**UNLEASED)

        self._persist(statement)

    def apart(
        self, statement: Callable[[str], None], lost: Callable[[Exception], None], *, now_too: bool = False
    ) -> None:
        """Run what is no part of the token, once, where a save would run: a rollback does not undo it.

        On SQLite inside a transaction: by a thread after it, and ``now_too`` where the caller will read it.
        ``lost`` is called where that never succeeds.
        """
        if self._placement is Placement.FOLLOWED:
            if now_too:
                statement(self.alias)
            self._follow_up(statement, lost)
        else:
            self._run(CLAIM_WAIT, statement)

    def adopt(self, row: Row) -> None:
        if isinstance(row, StoredRow):
            self.row.__dict__.update(row.columns)

    def held(self, *, usable: bool = True) -> StoredRow:
        """Return what the instance itself remembers; no query."""
        return self._stored(
            {**{name: getattr(self.row, name) for name in COLUMNS}, "leased": False, "usable": usable}
        )

    # --- statements -----------------------------------------------------------------------------

    def _rows(self, alias: str, *conditions: Q | LockWait, **lookups: Any) -> QuerySet[Any]:
        return QuerySet(self.model, using=alias).filter(*conditions, pk=self.row.pk, **lookups)

    def _values(self, alias: str) -> dict[str, Any] | None:
        found = _reading(self.model).using(alias).filter(pk=self.row.pk)[:1]
        return next(iter(found), None)

    def _glance(self, alias: str) -> tuple[int, str, int, bool] | None:
        found = _glancing(self.model).using(alias).filter(pk=self.row.pk)[:1]
        return next(iter(found), None)

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
        """Return the row as it is once these columns have been saved over the version seen."""
        saved = {**seen.columns, **columns, "version": seen.version + 1, **UNLEASED}
        return self._stored({**saved, "leased": False, "usable": True}, token)

    def _stored(self, values: dict[str, Any], token: Token | None = None) -> StoredRow:
        judged = {name: values[name] for name in ("leased", "usable")}
        columns = {name: values[name] for name in COLUMNS}
        if token is None and columns["sealed_token"] and columns["status"] != REVOKED:
            token = open_token(self.row, columns["sealed_token"])
        names = (
            "version",
            "lease_owner",
            "failures",
            "status",
            "client_id",
            "redirect_uri",
            "in_doubt",
            "last_error",
            "refresh_at",
        )
        return StoredRow(**{name: columns[name] for name in names}, token=token, **judged, columns=columns)

    # --- where they run -------------------------------------------------------------------------

    @contextmanager
    def _database(self, wait: float) -> Iterator[str]:
        if self._placement is Placement.ASIDE:
            with aside(self.alias, wait) as alias:
                yield alias
        else:
            with lock_wait(self.alias, wait):
                yield self.alias

    def _run(self, wait: float, statement: Callable[[str], T]) -> T:
        with self._database(wait) as alias:
            return statement(alias)

    def _persist(self, statement: Callable[[str], T]) -> T:
        """Run a write that must not be lost: again, within bounds, while the database is away."""
        for pause in SAVE_PAUSES:
            try:
                return self._run(SAVE_WAIT, statement)
            except AWAY as error:
                if self._placement is not Placement.ASIDE:
                    # Never a caller's in its transaction: Django would end that without a word.
                    if not commits_by_itself(connections[self.alias]):
                        raise
                    if not is_locked(error):
                        # Also one that still answers: its host may have become read-only.
                        connections[self.alias].close()
                logger.warning("database failed while saving; trying again", extra={"action": "save_retried"})
                time.sleep(pause)
        return self._run(SAVE_WAIT, statement)

    def _follow_up(self, statement: Callable[[str], Any], lost: Callable[[Exception], None]) -> None:
        """Save once more when the caller's transaction has ended, in case it was rolled back.

        SQLite has one writer: this one waits until the caller is done. After a commit the version has
        moved and nothing happens. Not a daemon: the interpreter waits for it.
        """
        alias = self.alias

        def write() -> None:
            give_up = time.monotonic() + FOLLOW_UP_SECONDS
            while True:
                try:
                    with own_transaction(alias, SAVE_WAIT) as private:
                        statement(private)
                    return
                except AWAY as error:
                    if time.monotonic() > give_up:
                        lost(error)
                        return
                    time.sleep(0.05)

        threading.Thread(target=write, name=FOLLOW_UP_THREAD).start()


FOLLOW_UP_THREAD = "oauth_connect-follow-up"


def _token_lost(error: Exception) -> None:
    logger.error("a token could not be saved", exc_info=error, extra={"action": "save_lost"})


def _outcome_lost(error: Exception) -> None:
    logger.error("what a refresh found out was lost", exc_info=error, extra={"action": "outcome_lost"})


# Made once: expressions are a good part of what a look costs, and who waits looks often.
@cache
def _reading(model: type[Model]) -> QuerySet[Any, dict[str, Any]]:
    return QuerySet(model).values(*COLUMNS, leased=leased(), usable=usable(model))


@cache
def _glancing(model: type[Model]) -> QuerySet[Any, tuple[Any, ...]]:
    return QuerySet(model).values_list("version", "lease_owner", "failures", leased())
