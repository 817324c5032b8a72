"""A process that runs the real engine over the model's row and provider, one effect at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from oauth_connect.engine.store import ACTIVE, Event, LeaseState, Row
from oauth_connect.errors import (
    KeyUnavailable,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
)
from oauth_connect.protocol.token import Token
from tests.engine.model.baton import Actor
from tests.engine.model.provider import GRACE, Minted
from tests.engine.model.world import FOREIGN, LEEWAY, LIFETIME, TIMEOUT, Lead, World, identity
from tests.protocol.providers import acme

Wish = Literal["valid", "newer", "forced", "bulk"]
# What becomes of a worker's next request.
Fault = Literal[
    "",
    "unreachable",
    "http_503",
    "invalid_client",
    "lost before",
    "lost after",
    "odd",
    "other sub",
    "other iss",
]
# Faults of a response that is there.
RECEIVED: tuple[Fault, ...] = ("", "odd", "other sub", "other iss")
WISHES: tuple[Wish, ...] = ("valid", "newer", "forced", "bulk")
PROVIDERS = {client: acme(client_id=client, refresh={"grace_seconds": 0}) for client in ("client", "other")}
GRACEFUL = {client: acme(client_id=client, refresh={"grace_seconds": GRACE}) for client in PROVIDERS}


@dataclass(frozen=True)
class Machine:
    """Where a worker runs. ``skew``: by how many seconds its clock is wrong."""

    skew: float = 0.0
    can_seal: bool = True
    client_id: str = "client"


class Worker(Actor):
    """One caller.

    ``wish``: a token that is ``valid``; one ``newer`` than the present, after a 401; the same, ``forced``
    past the back-off; or what a refresh in ``bulk`` does, which claims first and reads then.
    """

    def __init__(self, world: World, wish: Wish, machine: Machine | None = None) -> None:
        self.world = world
        self.wish = wish
        self.machine = machine or Machine()
        self.fault: Fault = ""
        self.number = len(world.actors)
        self.lead: Lead | None = None
        self.read: Row | None = None
        self.waited: tuple[str, int] | None = None
        engine = world.parts.engine
        newer_than = None if wish == "valid" else world.row.version
        need = engine.Need(LEEWAY, newer_than, force=wish == "forced", wait=wish != "bulk")
        self.store = WorkerStore(self)
        server: Any = WorkerServer(self)
        self.refresh = engine.Refresh(self.store, server, need, leeway=LEEWAY, now=self.now)
        super().__init__(self._bulk if wish == "bulk" else self.refresh.obtain)
        world.actors.append(self)

    def __str__(self) -> str:
        return f"worker {self.number} ({self.wish})"

    def now(self) -> datetime:
        return self.world.now(self.machine.skew)

    def _bulk(self) -> Row | None:
        owner = f"bulk-{self.number}"
        seen = self.store.read()
        claimed_at = self.world.clock.seconds
        if seen is None or seen.status != ACTIVE or not self.store.claim(seen, owner, self.refresh.lease):
            return None
        row = self.store.read()
        if row is None or row.lease_owner != owner:
            return None
        fresh = self.refresh.ask(row, owner, claimed_at)
        return self.refresh.save(row, owner, fresh) if fresh else None

    def judge(self) -> None:
        """A failed refresh does not fail the call while the token still works.

        Except for a worker that was held up between its claim and its look at the clock: it says "busy".
        """
        held_up = self.lead is not None and getattr(self.error, "code", "") == "busy"
        refused = isinstance(self.error, ProviderUnavailable) and not held_up
        token = self.read.token if self.read else None
        if self.wish == "valid" and refused and token and not token.is_expired(self.now()):
            self.world.violate(f"{self} is refused a token that still works")
        if isinstance(self.result, Row) and self.result.token is None:
            self.world.violate(f"{self} is given a connection without a token")
        got = self.result.token if isinstance(self.result, Row) else None
        if got is not None and got.carried and self.wish in {"newer", "forced"}:
            self.world.violate(f"{self} is given an access token that is not newer")
        if got is not None and got.carried and got.is_expired(self.now()):
            self.world.violate(f"{self} is given an access token that has expired")


class WorkerStore:
    """The store as one worker reaches it: each statement takes effect when the worker is stepped."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.world = worker.world
        self.store = worker.world.store

    @property
    def key(self) -> object:
        return self  # no thread of the same process: each worker is a process

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        self.world.clock.skew = self.worker.machine.skew
        yield
        self.world.clock.skew = 0.0

    def read(self) -> Row | None:
        self.worker.pause("read")
        with self._asking():
            row = self.store.read()
        self.worker.read = row
        self._noticed(row)
        return row

    def peek(self) -> LeaseState | None:
        self.worker.pause("peek")
        with self._asking():
            seen = self.store.peek()
        self._noticed(seen)
        return seen

    def _noticed(self, seen: LeaseState | None) -> None:
        lead = self.worker.lead
        if seen and seen.leased and (lead is None or lead.owner != seen.lease_owner):
            self.worker.waited = (seen.lease_owner, seen.version)

    def claim(self, seen: Row, owner: str, seconds: float) -> bool:
        self.worker.pause("claim")
        row = self.world.row
        previous = row.lease_owner
        with self._asking():
            claimed = self.store.claim(seen, owner, seconds)
        if claimed and row.status != ACTIVE and row.version == seen.version:
            self.world.violate(f"{self.worker} asks for a connection that is {row.status}")
        if claimed and row.failures > seen.failures and row.version == seen.version:
            self.world.violate(f"{self.worker} asks again what has just failed")
        if claimed:
            self.worker.lead = Lead(self.worker, owner, self.world.clock.seconds + seconds, row.version)
            self.world.claimed(self.worker.lead, previous)
        return claimed

    def check_writable(self) -> None:
        self.worker.pause("check_writable")
        self._seal()

    def _seal(self) -> None:
        if not self.worker.machine.can_seal:
            raise KeyUnavailable("no key")

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
        self.worker.pause("save")
        self._seal()
        mine = self.world.row.lease_owner == owner
        overtaken = self.world.row.version != seen.version
        marked = self.world.row.status != ACTIVE
        saved = self.store.save(seen, owner, token, refresh_at, failure=failure, reason=reason)
        lead = self._lead(owner)
        late = lead.until <= self.world.clock.seconds
        if saved is None and overtaken and late and lead.minted is not None:
            self.world.outlived(lead.minted)
        if saved is not None and marked and late and lead.minted is not None:
            self.world.healed(lead.minted)
        if saved is not None:
            self._lead(owner).saved = True
            if token.carried:
                self._lead(owner).carried = self.world.row.version
            if mine:
                self.world.mishaps.clear()
            if reason and not lead.foreign:
                self.world.violate(f"marked {reason}, though the answer was for the same account")
        return saved

    def _lead(self, owner: str) -> Lead:
        return self.world.leads.setdefault(owner, Lead(self.worker, owner, 0.0))

    def defer(self, seen: Row, owner: str, *, code: str, until: datetime, in_doubt: bool) -> None:
        self.worker.pause("defer")
        failures = self.world.row.failures
        self.store.defer(seen, owner, code=code, until=until, in_doubt=in_doubt)
        if self.world.row.failures > failures:
            self._lead(owner).failed = True

    def mark(self, seen: Row, owner: str, reason: str) -> bool:
        self.worker.pause("mark")
        marked = self.store.mark(seen, owner, reason)
        if marked:
            self.world.marked(self.worker.lead, reason)
        return marked

    def release(self, owner: str) -> None:
        self.worker.pause("release")
        self.store.release(owner)

    def adopt(self, row: Row) -> None:
        pass

    def orphaned(self, token: Token, *, account_changed: bool = False) -> None:
        self.worker.pause("revoke")
        self.store.orphaned(token, account_changed=account_changed)

    def announce(self, event: Event) -> None:
        pass


class WorkerServer:
    """The provider as one worker reaches it, in the place of an AuthorizationServer."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.world = worker.world
        choice = GRACEFUL if worker.world.kind == "grace" else PROVIDERS
        self.provider = choice[worker.machine.client_id]
        self.timeout = TIMEOUT

    def refresh(self, token: Token, *, redirect_uri: str = "") -> Token:
        lead = self._entered()
        started = self.worker.now()
        self.worker.pause("send")
        sent, fault, self.worker.fault = self.world.clock.seconds, self.worker.fault, ""
        if fault in {"unreachable", "http_503"}:
            raise ProviderUnavailable("down", code=fault)
        if fault == "invalid_client":
            raise ProviderMisconfigured("refused", error="invalid_client")
        if fault != "lost before":
            lead.foreign = fault == "other sub"
            lead.minted = self._answer(lead, token.refresh_token)
        self.worker.pause("receive")
        if fault not in RECEIVED or self.world.clock.seconds - sent > TIMEOUT:
            self._lose(lead)
        if fault == "odd" and lead.minted is not None:
            return self._odd(lead, token)
        return self._received(lead, token, started, fault)

    def _entered(self) -> Lead:
        """Return the lead that sends; it must be one who may ask at all."""
        worker, world = self.worker, self.world
        lead = worker.lead or world.leads.setdefault("", Lead(worker, "", 0.0))
        lead.had_margin = lead.until - world.clock.seconds >= TIMEOUT + 5.0
        seen = worker.read
        assert seen is not None
        if seen.status != ACTIVE:
            world.violate(f"{worker} sends for a connection that is {seen.status}")
        pausing = seen.failures and seen.refresh_at and seen.refresh_at > worker.now()
        if pausing and worker.wish in {"valid", "newer"}:
            world.violate(f"{worker} sends before the back-off is over")
        owner, version = worker.waited or ("", -1)
        waited_for = world.leads.get(owner)
        carried = waited_for is not None and waited_for.carried == world.row.version
        if carried and worker.wish != "bulk":
            world.violate(f"{worker} waited for {waited_for.worker}, which got no access token, and asks too")
        if waited_for and waited_for.failed and world.row.version == version and worker.wish != "bulk":
            world.violate(f"{worker} waited for {waited_for.worker}, which failed, and asks the same again")
        return lead

    def _answer(self, lead: Lead, refresh_token: str) -> Minted | None:
        if self.worker.machine.client_id != "client":
            return None  # a refresh token is bound to the client that got it (RFC 6749 section 6)
        self.world.about_to_spend(lead, refresh_token)
        return self.world.provider.spend(refresh_token, lead, foreign=lead.foreign)

    def _lose(self, lead: Lead) -> None:
        lead.lost = True
        self.world.mishaps.add("answer lost")
        if lead.minted is not None:
            self.world.lost_grants.add(lead.minted.grant.number)
        raise ProviderUnavailable("no answer", code="timeout", answer_lost=True)

    def _odd(self, lead: Lead, token: Token) -> Token:
        """A success without a usable access token. Where it has a new refresh token, that one came."""
        if self.world.kind == "lasting":
            raise ProviderUnavailable("odd", code="malformed_response", answer_lost=True)
        assert lead.minted is not None
        lead.in_hand = lead.minted
        return token.carrying(lead.minted.name, None)

    def _received(self, lead: Lead, token: Token, started: datetime, fault: Fault) -> Token:
        if lead.minted is None:
            raise ProviderRejected("over", error="invalid_grant")
        lasting = self.world.kind == "lasting"
        lead.in_hand = None if lasting else lead.minted
        fresh = Token(
            f"{FOREIGN if lead.foreign else 'access of'} {lead.worker}",
            started,
            refresh_token="" if lasting else lead.minted.name,
            expires_at=started + LIFETIME,
            extra=identity(sub="other" if lead.foreign else "", iss="other" if fault == "other iss" else ""),
        )
        after: Token = self.world.parts.after(fresh, token)
        return after
