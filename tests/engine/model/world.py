"""Everything that one run is made of, and what must be true of it at every moment."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

from oauth_connect.engine import refresh, timing
from oauth_connect.engine.store import ACCOUNT_CHANGED, ACTIVE, REAUTHORIZATION_REQUIRED, REVOKED
from oauth_connect.errors import CallError
from oauth_connect.protocol.token import Token
from tests.engine.model.baton import Actor
from tests.engine.model.memory import Clock, MemoryRow, MemoryStore
from tests.engine.model.provider import Grant, Kind, Minted, ModelProvider
from tests.support.tokens import id_token

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TIMEOUT = 15.0
LIFETIME = timedelta(seconds=100)
LEEWAY = timedelta(seconds=60)
MOST_STEPS = 400
FOREIGN = "another account's access of"


def identity(*, sub: str = "", iss: str = "") -> dict[str, str]:
    """What is left of an answer with an ID token: by default of the same subject and issuer in each."""
    claims = {"sub": sub or "the account", "iss": iss or "the issuer", "aud": "client"}
    return {"id_token": id_token(**claims)}


class Violation(AssertionError):
    """The protocol has broken a promise."""


@dataclass(frozen=True)
class Parts:
    """What is under test: the real code, or with a rule taken out."""

    engine: ModuleType = refresh
    store: type[MemoryStore] = MemoryStore
    row: type[MemoryRow] = MemoryRow
    after: Any = Token.after


# Seconds, what happened, and the row after it: version, token, status, doubt.
Moment = tuple[float, tuple[object, ...], int, Token | None, str, bool]


def in_words(
    seconds: float, what: tuple[object, ...], version: int, token: Token | None, status: str, in_doubt: bool
) -> str:
    name = token.refresh_token if token else "nothing"
    doubt = ", in doubt" if in_doubt else ""
    return f"[{seconds:7.2f}] {' '.join(map(str, what))}: v{version} {name} {status}{doubt}"


@dataclass
class Lead:
    """One claim, and what became of it."""

    worker: Any
    owner: str
    until: float
    version: int = 0
    had_margin: bool = False
    overtaken: bool = False
    lost: bool = False
    failed: bool = False
    saved: bool = False
    carried: int = -1  # the version under which it has saved a refresh token alone
    foreign: bool = False  # the answer is for another account
    minted: Minted | None = None
    in_hand: Minted | None = None

    def is_late(self, now: float) -> bool:
        """Held up for longer than its lease between the last look at the clock and what it does now."""
        return self.until <= now and self.had_margin


@dataclass
class World:
    """One connection, its provider, and whoever is busy with it.

    ``mishaps``: why the present refresh token may be spent without its answer being saved.
    ``lost_grants``: whose living refresh token is nowhere, by a crash, a lost answer or a worker slower than
    its lease; ``paused_grants``: by the last of these alone.
    """

    kind: Kind
    parts: Parts = field(default_factory=Parts)
    disconnected: bool = False
    mishaps: set[str] = field(default_factory=set)
    lost_grants: set[int] = field(default_factory=set)
    paused_grants: set[int] = field(default_factory=set)
    actors: list[Actor] = field(default_factory=list)
    leads: dict[str, Lead] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    story: list[Moment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.provider = ModelProvider(self.kind, self.clock)
        first = self.provider.consent()
        self.stored_grant = first.grant
        self.row = self.parts.row(self.clock, self.issued(first.name, self.now()))
        self.store = self.parts.store(self.row)
        self.running: Actor | None = None

    # --- time -----------------------------------------------------------------------------------

    def now(self, skew: float = 0.0) -> datetime:
        return NOON + timedelta(seconds=self.clock.seconds + skew)

    @contextlib.contextmanager
    def time(self) -> Iterator[None]:
        """Let the engine live by this world's clock."""
        clock = SimpleNamespace(monotonic=lambda: self.clock.seconds, sleep=self._sleep)
        with mock.patch.object(self.parts.engine, "time", clock):
            yield

    def _sleep(self, seconds: float) -> None:
        assert self.running is not None
        wake = self.clock.seconds + seconds
        self.running.pause("sleep")
        self.clock.seconds = max(self.clock.seconds, wake)

    def issued(self, refresh_token: str, at: datetime) -> Token:
        ends = at + LIFETIME
        name = f"access to {refresh_token}"
        return Token(name, at, refresh_token=refresh_token, expires_at=ends, extra=identity())

    # --- what happens ---------------------------------------------------------------------------

    def step(self, actor: Actor) -> None:
        self.run(actor, most=1)

    def run(self, actor: Actor, *, stops: Collection[str] = (), most: int) -> None:
        """Let it do ``most`` steps, or fewer where it comes to one of the ``stops`` or to its end."""
        self.running = actor
        steps, doing = 0, actor.at

        def paused() -> bool:
            nonlocal steps, doing
            steps += 1
            self.tell(actor, "did", doing)
            self.look()
            doing = actor.at
            return steps < most and doing not in stops and not self.violations

        actor.run_on(paused)
        if actor.done:
            self.tell(actor, "did", doing)
            self._finished(actor)
        self.check()

    def finish(self, actor: Actor) -> None:
        """Let it come to its end. A caller that never comes to one loops."""
        if actor.alive:
            self.run(actor, most=MOST_STEPS)
        if actor.alive:
            self.violate(f"{actor} never comes to an end")
        self.check()

    def kill(self, actor: Actor) -> None:
        self.tell(actor, "is killed before", actor.at)
        actor.kill()
        for lead in self.leads_of(actor):
            if lead.minted and not lead.saved:
                self.lost_grants.add(lead.minted.grant.number)

    def reconnect(self) -> None:
        """The user consents anew, and the new grant is stored."""
        consent = self.provider.consent()
        token = self.issued(consent.name, self.now())
        self.stored_grant, self.disconnected = consent.grant, False
        self.mishaps.clear()
        self.store.reconnect(token, timing.refresh_time(token, LEEWAY))
        self.tell("reconnected with", consent.name)
        self.check()

    def disconnect(self) -> None:
        self.disconnected = True
        self.store.disconnect()
        self.tell("disconnected")
        self.check()

    def consent_again(self) -> None:
        """The user consents again to the same grant; the answer leaves the refresh token out."""

        def job() -> None:
            while True:
                actor.pause("look")
                seen = self.store.read()
                if seen is None or seen.status != ACTIVE or seen.token is None:
                    return
                actor.pause("store")
                token = self.issued(seen.token.refresh_token, self.now())
                if self.store.consent_again(seen, token, timing.refresh_time(token, LEEWAY)):
                    return

        actor = Person(job)
        self.actors.append(actor)
        self.step(actor)

    def user_revokes(self) -> None:
        """At the provider, where we are not told."""
        self.stored_grant.ended_by = "user"
        self.tell("the user revokes at the provider")

    def pass_time(self, seconds: float) -> None:
        self.clock.seconds += seconds
        self.tell(seconds, "s pass")

    def leads_of(self, actor: Actor) -> list[Lead]:
        return [lead for lead in self.leads.values() if lead.worker is actor]

    def living(self) -> list[Actor]:
        return [actor for actor in self.actors if actor.alive]

    # --- what is noted --------------------------------------------------------------------------

    def tell(self, *what: object) -> None:
        """Note what has happened. It is put into words only when it comes out as a violation."""
        row = self.row
        self.story.append((self.clock.seconds, what, row.version, row.token, row.status, row.in_doubt))

    def violate(self, what: str) -> None:
        self.violations.append(what)

    def claimed(self, lead: Lead, previous: str) -> None:
        self.leads[lead.owner] = lead
        before = self.leads.get(previous)
        if before is not None:
            self.mishaps.add("taken over")
            if before.until <= self.clock.seconds:
                before.overtaken = True

    def about_to_spend(self, lead: Lead, name: str) -> None:
        """Nobody sends a spent token, unless who spent it crashed, lost the answer or outlived the lease."""
        if not self.provider.is_spent(name):
            return
        token = self.provider.minted[name]
        before: Lead = token.spender
        late = lead.is_late(self.clock.seconds)
        crashed = not before.saved and (before.worker.killed or before.lost)
        if not (crashed or before.overtaken or late):
            self.violate(f"{lead.worker} sends {name}, which {before.worker} has spent")
        answered = self.provider.accepts(name)
        # Held up between its look at the clock and now: its answer may come when the lease is another's.
        held_up = late or lead.until - self.clock.seconds < TIMEOUT
        if held_up or not (answered or self.kind == "strict"):
            self.lost_grants.add(token.grant.number)
            if held_up or not crashed:
                self.paused_grants.add(token.grant.number)

    def outlived(self, token: Minted) -> None:
        """Two were slower than their leases, and the one who was answered first has saved first."""
        self.lost_grants.add(token.grant.number)
        self.paused_grants.add(token.grant.number)

    def healed(self, token: Minted) -> None:
        """Who was slower than its lease has saved over a mark, and so ended the doubt.

        A successor's lost answer may have made that token void: then the row cannot tell any more why.
        """
        if not self.provider.accepts(token.name):
            self.outlived(token)

    def marked(self, lead: Lead | None, reason: str) -> None:
        """A connection is marked only when nothing that we have or shall get works, and rightly told."""
        assert self.row.token is not None
        name = self.row.token.refresh_token
        if reason == "expired" or self.provider.accepts(name):
            return self.violate(f"marked {reason}, though the provider takes {name}")
        grant = self.provider.minted[name].grant
        for other in self.leads.values():
            if other is not lead and self._is_about_to_save(other, grant):
                self.violate(f"marked {reason}, though {other.worker} is about to save its token")
        if reason == "revoked" and grant.ended_by != "user" and grant.number not in self.paused_grants:
            self.violate("said to be revoked, though the rotation was lost")
        if reason == "rotation_lost" and not self.mishaps:
            self.violate("the rotation is said to be lost, though it was not")
        return None

    def _is_about_to_save(self, lead: Lead, grant: Grant) -> bool:
        if lead.minted is None or lead.saved or lead.minted.grant is not grant or not lead.worker.alive:
            return False
        return lead.until > self.clock.seconds and self.provider.accepts(lead.minted.name)

    # --- what must be true ----------------------------------------------------------------------

    def check(self) -> None:
        self.look()
        self.raise_violations()

    def look(self) -> None:
        """At every moment."""
        row = self.row
        if (row.status == REVOKED) != self.disconnected:
            self.violate(
                "what was disconnected is connected" if self.disconnected else "disconnected by nobody"
            )
        if row.token and self.provider.minted.get(row.token.refresh_token) is None:
            self.violate("the refresh token is gone")
        elif row.token and self.provider.minted[row.token.refresh_token].grant is not self.stored_grant:
            self.violate("an older refresh has written over the token of a reconnect")
        elif row.token and row.status == ACTIVE and self.provider.minted[row.token.refresh_token].foreign:
            self.violate("the next refresh sends another account's refresh token")
        if row.token and row.token.access_token.startswith(FOREIGN):
            self.violate("the row holds another account's access token")

    def raise_violations(self) -> None:
        if self.violations:
            story = [in_words(*moment) for moment in self.story]
            raise Violation("\n".join([*self.violations, f"({self.kind} provider)", *story]))

    def _finished(self, actor: Actor) -> None:
        """Whoever comes to its end leaves no lease, and no living token that is nowhere else."""
        if actor.error is not None and not isinstance(actor.error, CallError):
            raise actor.error
        for lead in self.leads_of(actor):
            if self.row.lease_owner == lead.owner:
                self.violate(f"{actor} is done and leaves its lease")
            if lead.in_hand and not lead.saved and self.provider.accepts(lead.in_hand.name):
                self._dropped(lead, lead.in_hand)
        actor.judge()

    def _dropped(self, lead: Lead, token: Minted) -> None:
        if token.name in self._aside():
            return
        if self.disconnected or token.grant is not self.stored_grant:
            self.violate(f"{token.name} outlives its grant in the row, and nobody knows it")
        elif not lead.is_late(self.clock.seconds):
            self.violate(f"{lead.worker} got {token.name}, and drops it")

    def _aside(self) -> set[str]:
        """The refresh tokens that are kept for a revocation, or revoked."""
        return {token.refresh_token for token in [*self.row.kept, *self.row.revoked]}

    def _look_for_strays(self) -> None:
        """A living refresh token is in the row, kept, or revoked, unless it died with a worker.

        Or two workers were slower than their leases, and one saved over the other's.
        """
        held = {self.row.token.refresh_token} if self.row.token else set()
        died = {
            lead.minted.name
            for lead in self.leads.values()
            if lead.minted and (lead.lost or lead.worker.killed)
        }
        for token in self.provider.minted.values():
            lives = token.spent_at is None and self.provider.accepts(token.name)
            if token.grant.number in self.paused_grants:
                continue
            if lives and token.name not in held | died | self._aside():
                self.violate(f"{token.name} lives, and is neither in the row, nor kept, nor revoked")
        if self.disconnected and self.row.kept:
            self.violate("what was kept is not revoked, though the connection has ended")

    def settle(self) -> None:
        """Let everybody finish: then the row holds the living token, or rightly says that it is lost."""
        for actor in self.living():
            self.finish(actor)
        self._look_for_strays()
        if self.disconnected:
            return self.raise_violations()
        assert self.row.token is not None
        name = self.row.token.refresh_token
        if self.stored_grant.number not in self.lost_grants and self.stored_grant.ended_by != "user":
            if self.row.status != ACTIVE and self.row.last_error != ACCOUNT_CHANGED:
                self.violate(f"at the end the connection is {self.row.status}: {self.row.last_error}")
            if not self.provider.accepts(name):
                self.violate(f"at the end the row holds {name}, which no longer works")
        return self.raise_violations()

    def came_out_right(self, last: Actor) -> None:
        """After a last caller who insists, with nothing to disturb it."""
        reason = getattr(last.error, "reason", "")
        if self.disconnected:
            ok = reason == "disconnected"
        elif self.row.status == REAUTHORIZATION_REQUIRED:
            ok = reason == self.row.last_error
        else:
            assert self.row.token is not None
            ok = last.error is None and self.provider.accepts(self.row.token.refresh_token)
        if not ok:
            self.violate(f"the last caller got {last.error!r}")
        self.raise_violations()


class Person(Actor):
    """Somebody in front of a browser."""

    def __str__(self) -> str:
        return "a person"
