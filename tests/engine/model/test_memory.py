"""The model's row does what the real statements do, whatever the order in which they come."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import F, QuerySet
from hypothesis import given, settings
from hypothesis import strategies as st

from oauth_connect.engine.store import ACCOUNT_CHANGED, ACTIVE, LeaseState, Row
from oauth_connect.models import Connection, PendingRevocation
from oauth_connect.protocol.token import Token
from oauth_connect.stores.row import RowStore
from tests.engine.model.memory import Clock, MemoryRow, MemoryStore
from tests.engine.model.search import SEARCH, examples
from tests.protocol.providers import ACME

EXAMPLES = 60
LATER = datetime(2036, 1, 1, tzinfo=UTC)
OWNERS = st.sampled_from(["a", "b"])
# Which of the rows that were read before, counted from the newest. Mostly that: the rest is refused.
SEEN = st.sampled_from([0, 0, 0, 1, 2, 3])
LOOKS = ("read", "peek")
OPERATIONS = st.one_of(
    st.tuples(st.sampled_from(LOOKS)),
    st.tuples(st.just("claim"), SEEN, OWNERS),
    st.tuples(st.just("claim"), SEEN, OWNERS),
    st.tuples(st.just("save"), SEEN, OWNERS),
    st.tuples(st.just("carry"), SEEN, OWNERS),
    st.tuples(st.just("change_account"), SEEN, OWNERS),
    st.tuples(st.just("defer"), SEEN, OWNERS, st.booleans()),
    st.tuples(st.just("mark"), SEEN, OWNERS),
    st.tuples(st.just("release"), OWNERS),
    st.tuples(st.just("reconnect")),
    st.tuples(st.just("consent_again")),
    st.tuples(st.just("disconnect")),
    # No sum of these comes near the lease's 30 seconds.
    st.tuples(st.just("pass_time"), st.sampled_from([11, 31])),
    # By chance these come together too seldom.
    st.tuples(st.just("claim_and_run_out"), OWNERS),
    st.tuples(st.just("claim_and_mark"), OWNERS),
)
accounts = itertools.count(1)


def shown(result: Any) -> Any:
    """What the engine can tell of a result."""
    if isinstance(result, Row):
        token = None if result.token is None else result.token.refresh_token
        told = (result.status, token, result.in_doubt, result.last_error, result.refresh_at is None)
        return (*shown(LeaseState(result.version, result.lease_owner, result.failures, result.leased)), *told)
    if isinstance(result, LeaseState):
        return (result.version, result.lease_owner, result.failures, result.leased)
    return result


@dataclass
class Pair:
    """The same connection twice: in the database, and in memory."""

    owner: Any
    account: str = field(default_factory=lambda: f"conformance-{next(accounts)}")
    names: Any = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        token = self.token()
        self.connection = self.store(token)
        self.real = RowStore(
            self.connection, on_event=lambda event: None, on_orphan=lambda *token, **of: None
        )
        self.row = MemoryRow(Clock(), token, refresh_at=LATER)
        self.memory = MemoryStore(self.row)
        self.seen = [self.both("read")]

    def store(self, token: Token) -> Connection:
        return Connection.objects.store(
            owner=self.owner, provider="acme", account_id=self.account, token_response=token
        )

    def token(self, *, refresh_token: str | None = None) -> Token:
        number = next(self.names)
        kept = f"refresh-{number}" if refresh_token is None else refresh_token
        now = datetime.now(UTC)
        return Token(f"access-{number}", now, refresh_token=kept, expires_at=now + timedelta(hours=1))

    def both(self, name: str, *arguments: Any, **options: Any) -> tuple[Any, Any]:
        """Do it on both; rows seen are given as their pair."""
        sides = []
        for side, store in enumerate((self.real, self.memory)):
            own = [a[side] if isinstance(a, tuple) else a for a in arguments]
            sides.append(getattr(store, name)(*own, **options))
        assert shown(sides[0]) == shown(sides[1]), name
        return sides[0], sides[1]

    def do(self, name: str, *arguments: Any) -> None:
        getattr(self, f"_{name}", self.both)(*([] if hasattr(self, f"_{name}") else [name]), *arguments)
        if name not in LOOKS:
            self.look_at_kept()
            self.seen = [*self.seen, self.both("read")][-4:]

    def look_at_kept(self) -> None:
        """Both have put the same tokens aside."""
        kept, due = set(), set()
        for pending in PendingRevocation.objects.filter(connection_id=self.connection.pk):
            aside = kept if pending.next_attempt_at is None else due
            aside.add(pending.open().access_token)
        assert kept == {token.access_token for token in self.row.kept}
        assert due == {token.access_token for token in self.row.revoked}

    def _at(self, index: int) -> tuple[Any, Any]:
        return self.seen[-1 - index % len(self.seen)]

    def _claim(self, index: int, owner: str) -> None:
        self.both("claim", self._at(index), owner, 30)

    def _claim_and_run_out(self, owner: str) -> None:
        self._claim(0, owner)
        self._pass_time(31)

    def _claim_and_mark(self, owner: str) -> None:
        self._claim(0, owner)
        self._mark(0, owner)

    def _save(self, index: int, owner: str) -> None:
        self.both("save", self._at(index), owner, self.token(), LATER)

    def _carry(self, index: int, owner: str) -> None:
        token = self.token().carrying("refresh-carried", None)
        self.both("save", self._at(index), owner, token, LATER, failure="malformed_response")

    def _change_account(self, index: int, owner: str) -> None:
        token = self.token().carrying("refresh-other", None)
        self.both("save", self._at(index), owner, token, None, reason=ACCOUNT_CHANGED)

    def _defer(self, index: int, owner: str, doubt: bool) -> None:
        self.both("defer", self._at(index), owner, code="http_503", until=LATER, in_doubt=doubt)

    def _mark(self, index: int, owner: str) -> None:
        self.both("mark", self._at(index), owner, "revoked")

    def _reconnect(self) -> None:
        token = self.token()
        self.store(token)
        self.memory.reconnect(token, LATER)

    def _consent_again(self) -> None:
        token, seen = self.token(refresh_token=""), self.row.seen()
        self.store(token)
        if seen.status == ACTIVE and seen.token is not None:
            self.memory.consent_again(seen, token.after(seen.token), LATER if seen.token.renewable else None)
        else:
            self.memory.reconnect(token, None)

    def _disconnect(self) -> None:
        Connection.objects.get(pk=self.connection.pk).disconnect()
        self.memory.disconnect()

    def _pass_time(self, seconds: int) -> None:
        """The database's clock stands still, so the lease goes back in time."""
        rows: QuerySet[Any] = QuerySet(Connection).filter(pk=self.connection.pk)
        rows.update(lease_until=F("lease_until") - seconds * 1000)
        self.row.clock.seconds += seconds


@settings(**SEARCH, max_examples=examples(EXAMPLES))
@given(operations=st.lists(OPERATIONS, min_size=15, max_size=25))
@pytest.mark.django_db
def test_the_row_in_memory_does_what_the_statements_do(operations, configure, user):
    configure(PROVIDERS={"acme": ACME})
    pair = Pair(user)
    for operation in operations:
        pair.do(*operation)
