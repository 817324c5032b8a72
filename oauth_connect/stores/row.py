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
from typing import Any, TypeVar

from django.core.exceptions import FieldDoesNotExist
from django.db import InterfaceError, OperationalError, connections, router
from django.db.models import Case, F, Model, Q, QuerySet, Value, When

from oauth_connect import crypto
from oauth_connect.engine.store import ACTIVE, REAUTHORIZATION_REQUIRED, REVOKED, Event, Glance, Row
from oauth_connect.errors import ConnectionLocked
from oauth_connect.protocol.token import Token
from oauth_connect.stores.clock import DatabaseMilliseconds
from oauth_connect.stores.placement import Placement, aside, is_locked, own_transaction, placement

T = TypeVar("T")
logger = logging.getLogger("oauth_connect.stores")

COLUMNS = (
    "sealed_token",
    "version",
    "status",
    "client_id",
    "redirect_uri",
    "scopes",
    "expires_at",
    "refresh_at",
    "refresh_token_expires_at",
    "last_refreshed_at",
    "last_error",
    "failures",
    "lease_owner",
    "lease_until",
    "in_doubt",
)
CLAIM_WAIT = 2.0
SAVE_WAIT = 20.0
SAVE_PAUSES = (0.1, 0.3, 1.0, 2.0, 4.0)
FOLLOW_UP_SECONDS = 60.0
UNLEASED = {"lease_owner": ""}


@dataclass(frozen=True, slots=True)
class StoredRow(Row):
    """A Row with the raw columns it was made from."""

    columns: Mapping[str, Any]


def binding(row: Any) -> crypto.Binding:
    """What a row's sealed token belongs to: model, column, primary key, provider."""
    return (row._meta.label_lower, "sealed_token", str(row.pk), row.provider)


def seal_token(row: Any, token: Token) -> str:
    return crypto.seal(token.to_dict(), binding(row))


def open_token(row: Any, sealed: str) -> Token:
    """Raises KeyUnavailable."""
    return Token.from_dict(crypto.unseal(sealed, binding(row)))


def token_columns(row: Any, token: Token, refresh_at: datetime | None) -> dict[str, Any]:
    """Return the columns that a new token sets, whoever writes them."""
    now = datetime.now(UTC)
    return {
        "sealed_token": type(row)._meta.get_field("sealed_token").to_python(seal_token(row, token)),
        "status": ACTIVE,
        "scopes": list(token.scopes),
        "expires_at": token.expires_at,
        "refresh_at": refresh_at,
        "refresh_token_expires_at": token.refresh_token_expires_at,
        "last_refreshed_at": now,
        "last_error": "",
        "failures": 0,
        "in_doubt": False,
        "updated_at": now,
    }


class RowStore:
    """The TokenStore of one saved instance. ``tell`` hears events, ``bury`` gets orphaned tokens."""

    def __init__(self, row: Any, *, tell: Callable[[Event], None], bury: Callable[[Token], None]) -> None:
        self.row = row
        self.model: type[Model] = type(row)
        self.alias = router.db_for_write(self.model, instance=row)
        self.announce = tell
        self.orphaned = bury
        self._placement = placement(self.alias)

    @property
    def key(self) -> Hashable:
        return (self.alias, self.model._meta.label_lower, self.row.pk)

    def read(self) -> StoredRow | None:
        values = self._run(CLAIM_WAIT, self._values)
        if values is None and self._placement is Placement.ASIDE:
            # Not visible from outside: the caller has not committed it. Row and token share one fate.
            self._placement = Placement.DIRECT
            values = self._run(CLAIM_WAIT, self._values)
        return None if values is None else self._stored(values)

    def glance(self) -> Glance | None:
        found = self._run(CLAIM_WAIT, self._glance)
        return None if found is None else Glance(*found)

    def claim(self, seen: Row, owner: str, seconds: float) -> bool:
        def statement(alias: str) -> int:
            free = Q(lease_owner="") | Q(lease_until__lte=DatabaseMilliseconds())
            return self._rows(alias, free, version=seen.version).update(
                # Before lease_owner: MariaDB assigns from left to right.
                in_doubt=Case(When(~Q(lease_owner=""), then=Value(True)), default=F("in_doubt")),
                lease_until=DatabaseMilliseconds() + int(seconds * 1000),
                lease_owner=owner,
            )

        try:
            return bool(self._run(CLAIM_WAIT, statement))
        except OperationalError as error:
            if not is_locked(error):
                raise
        raise ConnectionLocked(
            "This connection's row is locked by an open transaction; nothing was sent. "
            "Refresh before the transaction changes the row, or after it."
        )

    def prove(self) -> None:
        proof = ("proof", *self.key[1:])  # type: ignore[index]
        crypto.unseal(crypto.seal("", tuple(map(str, proof))), tuple(map(str, proof)))

    def save(self, seen: Row, owner: str, token: Token, refresh_at: datetime | None) -> Row | None:
        assert isinstance(seen, StoredRow)  # noqa: S101  (it came from read)
        columns = token_columns(self.row, token, refresh_at)

        def statement(alias: str) -> StoredRow | None:
            return self._save(alias, seen, owner, token, columns)

        saved = self._persist(statement)
        if saved is not None and self._placement is Placement.FOLLOWED:
            self._follow_up(statement)
        return saved

    def postpone(self, seen: Row, owner: str, *, code: str, until: datetime, in_doubt: bool) -> None:
        changes: dict[str, Any] = {"in_doubt": True} if in_doubt else {}

        def statement(alias: str) -> int:
            return self._rows(alias, version=seen.version, lease_owner=owner).update(
                **changes,
                failures=F("failures") + 1,
                last_error=code[:64],
                refresh_at=until,
                updated_at=datetime.now(UTC),
                **UNLEASED,
            )

        self._persist(statement)

    def defer(self, version: int, failures: int, until: datetime) -> None:
        """Move the next try of a row with which a refresh could not even begin.

        Nothing else is touched: who needs the token before may try, and a refresh under way says better.
        """

        def statement(alias: str) -> int:
            seen = self._rows(alias, version=version, failures=failures, status=ACTIVE)
            return seen.update(refresh_at=until, updated_at=datetime.now(UTC))

        self._run(CLAIM_WAIT, statement)

    def mark(self, seen: Row, owner: str, reason: str) -> bool:
        def statement(alias: str) -> int:
            return self._rows(alias, version=seen.version, lease_owner=owner).update(
                status=REAUTHORIZATION_REQUIRED,
                last_error=reason,
                refresh_at=None,
                updated_at=datetime.now(UTC),
                **UNLEASED,
            )

        return bool(self._persist(statement))

    def release(self, owner: str) -> None:
        self._persist(lambda alias: self._rows(alias, lease_owner=owner).update(**UNLEASED))

    def adopt(self, row: Row) -> None:
        if isinstance(row, StoredRow):
            self.row.__dict__.update(row.columns)

    def held(self) -> StoredRow:
        """Return what the instance itself remembers; no query."""
        return self._stored(
            {**{name: getattr(self.row, name) for name in COLUMNS}, "leased": False, "usable": True}
        )

    # --- statements -----------------------------------------------------------------------------

    def _rows(self, alias: str, *conditions: Q, **lookups: Any) -> QuerySet[Any]:
        return QuerySet(self.model, using=alias).filter(*conditions, pk=self.row.pk, **lookups)

    def _values(self, alias: str) -> dict[str, Any] | None:
        found = self._rows(alias).values(*COLUMNS, leased=_leased(), usable=_usable(self.model))[:1]
        return next(iter(found), None)

    def _glance(self, alias: str) -> tuple[int, str, int, bool] | None:
        found = self._rows(alias).values_list("version", "lease_owner", "failures", _leased())[:1]
        return next(iter(found), None)

    def _save(
        self, alias: str, seen: StoredRow, owner: str, token: Token, columns: Mapping[str, Any]
    ) -> StoredRow | None:
        mine = Q(lease_owner=owner)
        changes = {
            **columns,
            # Only the owner's own lease is freed: another leader may be at it by now.
            "lease_owner": Case(When(mine, then=Value("")), default=F("lease_owner")),
            "version": F("version") + 1,
        }
        if self._rows(alias, version=seen.version).update(**changes):
            saved = {**seen.columns, **columns, "version": seen.version + 1, **UNLEASED}
            return self._stored({**saved, "leased": False, "usable": True}, token)
        if self._rows(alias, mine).update(**changes):
            values = self._values(alias)
            return None if values is None else self._stored(values)
        return None

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
            yield self.alias

    def _run(self, wait: float, statement: Callable[[str], T]) -> T:
        with self._database(wait) as alias:
            return statement(alias)

    def _persist(self, statement: Callable[[str], T]) -> T:
        """Run a write that must not be lost: again, within bounds, while the database is away."""
        for pause in SAVE_PAUSES:
            try:
                return self._run(SAVE_WAIT, statement)
            except (OperationalError, InterfaceError):
                if self._placement is not Placement.ASIDE and connections[self.alias].in_atomic_block:
                    raise
                logger.warning("database failed while saving; trying again", extra={"action": "save_retried"})
                connections[self.alias].close_if_unusable_or_obsolete()
                time.sleep(pause)
        return self._run(SAVE_WAIT, statement)

    def _follow_up(self, statement: Callable[[str], Any]) -> None:
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
                except OperationalError:
                    if time.monotonic() > give_up:
                        logger.exception("a token could not be saved", extra={"action": "save_lost"})
                        return
                    time.sleep(0.05)

        threading.Thread(target=write, name=FOLLOW_UP_THREAD).start()


FOLLOW_UP_THREAD = "oauth_connect-follow-up"


def _leased() -> Case:
    return Case(
        When(~Q(lease_owner="") & Q(lease_until__gt=DatabaseMilliseconds()), then=Value(True)),
        default=Value(False),
    )


def _usable(model: type[Model]) -> Any:
    """Judge in the same statement whether the user, where there is one, is active."""
    try:
        model._meta.get_field("user").related_model._meta.get_field("is_active")  # type: ignore[union-attr]
    except FieldDoesNotExist:
        return Value(True)
    return Case(When(user__is_active=False, then=Value(False)), default=Value(True))
