"""Refreshing whatever is due: what a site asks for from cron, a command or a worker.

Any number of these may run at once: the lease in each row decides who refreshes it. One row after
the other so far; a worker that is handed primary keys calls ``refresh_one``.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, router
from django.db.models import Min, Q

from oauth_connect.conf import UnknownProvider, conf
from oauth_connect.engine.refresh import Need, pause
from oauth_connect.engine.store import Event
from oauth_connect.errors import (
    CallError,
    ConnectionLocked,
    InvalidProvider,
    KeyUnavailable,
    ProviderMisconfigured,
    ProviderUnavailable,
    ReauthorizationRequired,
)
from oauth_connect.models import Connection, access, ending
from oauth_connect.models.querysets import ConnectionQuerySet
from oauth_connect.protocol import messages
from oauth_connect.protocol.token import Token
from oauth_connect.stores.row import RowStore

logger = logging.getLogger("oauth_connect")

CHUNK = 100  # rows of one provider in memory at a time
LONGEST_BACK_OFF = 16  # failures after which ``pause`` grows no more

Outcome = Literal[
    "refreshed",
    "not_needed",
    "skipped",
    "unavailable",
    "misconfigured",
    "reauthorization_required",
    "failed",
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
FAILED = frozenset(OUTCOMES[3:])
NOBODY_NEEDS_IT = frozenset({"disconnected", "owner_inactive"})
# RFC 6749 section 5.2, then this package's own.
WORDS = (
    messages.MISCONFIGURED
    | messages.TRANSIENT
    | {"invalid_request", "invalid_grant", "invalid_scope", "access_denied", "provider_disabled"}
    | {ConnectionLocked.code, KeyUnavailable.code}
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it went. ``code``: the error's stable word, never a provider's text."""

    outcome: Outcome
    code: str = ""


@dataclass(frozen=True, slots=True)
class Result(Verdict):
    """How it went for one connection."""

    provider: str = ""
    connection: uuid.UUID | None = None


CRASHED = Verdict("failed", "crashed")
BUSY = Verdict("not_needed", "busy")
LOCKED = Verdict("failed", ConnectionLocked.code)
LEFT_AS_THEY_ARE = frozenset({BUSY, LOCKED})  # somebody else is at the row, and will move it


class Due:
    """The connections that are due now or within a time, of the providers named, else of all.

    What is due is decided when it is made: no row comes twice, however short its new token lives.
    """

    def __init__(self, providers: Iterable[str] = (), within: timedelta = timedelta(0)) -> None:
        started = datetime.now(UTC)
        self.horizon = started + within
        self.named = tuple(dict.fromkeys(providers))
        # Never from a replica: what it has not heard of yet would be looked at for nothing.
        self.stored: ConnectionQuerySet[Connection] = Connection.objects.using(
            router.db_for_write(Connection)
        )
        out_of_back_off = Q(failures=0) | Q(refresh_at__lte=started)
        before_now = Q(last_refreshed_at=None) | Q(last_refreshed_at__lt=started)
        self.rows = self.stored.due(within).filter(out_of_back_off, before_now)

    def of(self, provider: str) -> ConnectionQuerySet[Connection]:
        return self.rows.filter(provider=provider)

    def counts(self) -> dict[str, int]:
        """How many are due of each provider that has any."""
        counted = ((slug, self.of(slug).count()) for slug in self.providers())
        return {slug: count for slug, count in counted if count}

    def providers(self) -> Iterator[str]:
        """Each provider that may have any: one look into the index for each, whatever is due."""
        if self.named:
            yield from self.named
            return
        last = ""
        while last := self.stored.filter(provider__gt=last).aggregate(next=Min("provider"))["next"] or "":
            yield last

    def connections(self, provider: str) -> Iterator[Connection]:
        """The longest overdue first, a chunk in memory at a time."""
        rows = self.of(provider).order_by("refresh_at", "pk")
        chunk = list(rows[:CHUNK])
        while chunk:
            # Noted before they are used: a refresh moves refresh_at on the instance too.
            time, pk = chunk[-1].refresh_at, chunk[-1].pk
            yield from chunk
            after = Q(refresh_at__gt=time) | Q(refresh_at=time, pk__gt=pk)
            chunk = list(rows.filter(after, refresh_at__gte=time)[:CHUNK])


def refresh_due(due: Due) -> Iterator[Result]:
    """Refresh what is due, a connection of each provider in turn, and yield how each went.

    Whoever stops iterating stops the work, between two connections. One bad row stops nothing;
    DatabaseError is raised where the next rows cannot be read.
    """
    usable = [due.connections(slug) for slug in due.providers() if unusable(slug) is None]
    for connection in in_turn(usable):
        yield refresh_one(connection, horizon=due.horizon)


def unusable(provider: str) -> Verdict | None:
    """Say why no connection of a provider can be refreshed at all; None where nothing is known."""
    if conf.mapping.get("PROVIDER_LOADER") is not None:
        return None  # it may differ by owner
    try:
        entry = conf.declared_provider(provider)
    except ImproperlyConfigured as error:
        return judged(error)
    return None if entry.enabled else Verdict("skipped", "provider_disabled")


def refresh_one(connection: Connection, *, horizon: datetime | None = None) -> Result:
    """Refresh a connection unless somebody else has since it was read, or is at it; never waits for them.

    Raises nothing. A row with which a refresh could not begin is next due some minutes after ``horizon``.
    """
    heard: list[Event] = []

    def tell(event: Event) -> None:
        heard.append(event)
        access.tell(connection, event)

    def bury(token: Token) -> None:
        ending.bury(connection, token)

    # Noted now: a refresh changes the instance.
    version, failures = connection.version, connection.failures
    store = RowStore(connection, tell=tell, bury=bury)
    try:
        access.obtain(connection, Need(conf.refresh_leeway, newer_than=version, patient=False), store)
    except Exception as error:
        verdict = judged(error)
        if verdict == CRASHED:
            logger.exception("a refresh crashed", extra={"action": "refresh_crashed"})
            connections[store.alias].close_if_unusable_or_obsolete()
        if verdict not in LEFT_AS_THEY_ARE:
            _defer(store, version, failures, horizon or datetime.now(UTC))
    else:
        saved = any(event.action == "refreshed" for event in heard)
        verdict = Verdict("refreshed" if saved else "not_needed")
    return Result(verdict.outcome, verdict.code, connection.provider, connection.pk)


def judged(error: Exception) -> Verdict:
    """Tell an error for what it is."""
    for kinds, judge in _JUDGES:
        if isinstance(error, kinds):
            return judge(error)
    return CRASHED


def _misconfigured(error: Any) -> Verdict:
    return Verdict("skipped" if error.code == "provider_disabled" else "misconfigured", shown(error.code))


def _unavailable(error: Any) -> Verdict:
    return BUSY if error.code == "busy" else Verdict("unavailable", shown(error.code))


def _ended(error: Any) -> Verdict:
    outcome: Outcome = "not_needed" if error.reason in NOBODY_NEEDS_IT else "reauthorization_required"
    return Verdict(outcome, error.reason)


def shown(code: str) -> str:
    """Return an error's code if it is a known word; a provider may write anything there, a token too."""
    known = code in WORDS or re.fullmatch(r"http_\d{3}", code)
    return code if known else "other_error"


_JUDGES: tuple[tuple[Any, Callable[[Any], Verdict]], ...] = (
    (UnknownProvider, lambda error: Verdict("skipped", "provider_missing")),
    ((ImproperlyConfigured, InvalidProvider), lambda error: Verdict("misconfigured", "invalid_settings")),
    (ProviderMisconfigured, _misconfigured),
    (ProviderUnavailable, _unavailable),
    (ReauthorizationRequired, _ended),
    (CallError, lambda error: Verdict("failed", shown(getattr(error, "code", "")))),
)


def _defer(store: RowStore, version: int, failures: int, horizon: datetime) -> None:
    """Let a row that cannot succeed not head the queue; one that a back-off has moved stays there."""
    until = horizon + timedelta(seconds=pause(LONGEST_BACK_OFF, None))
    try:
        store.defer(version, failures, until)
    except DatabaseError:
        logger.warning("a row could not be put off", extra={"action": "defer_failed"})


def in_turn(queues: Iterable[Iterator[Any]]) -> Iterator[Any]:
    """Yield one of each queue in turn, until all are empty."""
    waiting = deque(queues)
    while waiting:
        queue = waiting.popleft()
        for item in queue:
            yield item
            waiting.append(queue)
            break
