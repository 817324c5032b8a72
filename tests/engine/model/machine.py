"""The state machine: Hypothesis decides who runs how far, who dies, what fails and how much time passes."""

from __future__ import annotations

import contextlib
from typing import Literal, get_args

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.engine.model.baton import Actor
from tests.engine.model.provider import KINDS, Kind
from tests.engine.model.worker import WISHES, Fault, Machine, Wish, Worker
from tests.engine.model.world import Parts, World

AT_ONCE = 4
Point = Literal["claim", "prove", "send", "receive", "write", "end"]
POINTS: tuple[Point, ...] = get_args(Point)
WRITES = {"save", "postpone", "mark", "release", "store"}
# More than the margin, an HTTP time-out, a lease; until the leeway, and past the life, of an access token.
PASSING = (6.0, 16.0, 31.0, 80.0, 101.0)
AGES = (0.0, 80.0, 101.0)

Trouble = Literal[
    "crash",
    "answer lost",
    "provider ill",
    "wrong settings",
    "wrong clock",
    "no key",
    "other client",
    "reconnect",
    "consent again",
    "disconnect",
    "revoked there",
]
TROUBLES: tuple[Trouble, ...] = get_args(Trouble)
ELSEWHERE: dict[Trouble, tuple[Machine, ...]] = {
    "wrong clock": (Machine(skew=600), Machine(skew=-600)),
    "no key": (Machine(can_seal=False),),
    "other client": (Machine(client_id="other"),),
}
FAILING: dict[Trouble, tuple[Fault, ...]] = {
    "answer lost": ("lost before", "lost after"),
    "provider ill": ("http_503", "unreachable"),
    "wrong settings": ("invalid_client",),
}

PERSONS: tuple[Trouble, ...] = ("reconnect", "consent again", "disconnect", "revoked there")


class LeaseProtocol(RuleBasedStateMachine):
    """Workers at one connection. ``troubles``: what may happen, each a few times in a run."""

    parts = Parts()
    kinds: tuple[Kind, ...] = KINDS
    troubles: tuple[Trouble, ...] = TROUBLES
    wishes: tuple[Wish, ...] = WISHES
    passing: tuple[float, ...] = PASSING

    def __init__(self) -> None:
        super().__init__()
        self.open = contextlib.ExitStack()
        self.world = World(self.kinds[0])
        self.left = 0

    @initialize(data=st.data(), troubles=st.integers(1, 4), age=st.sampled_from(AGES))
    def begin(self, data: st.DataObject, troubles: int, age: float) -> None:
        self.world = World(data.draw(st.sampled_from(self.kinds)), self.parts)
        self.open.enter_context(self.world.time())
        self.left = troubles
        self.world.pass_time(age)

    def has_room(self) -> bool:
        return len(self.world.living()) < AT_ONCE

    def is_busy(self) -> bool:
        return bool(self.world.living())

    @precondition(has_room)
    @rule(data=st.data(), until=st.sampled_from(POINTS))
    def start(self, data: st.DataObject, until: Point) -> None:
        self.start_one(data, until)

    def start_one(self, data: st.DataObject, until: Point, machine: Machine | None = None) -> None:
        self.run(Worker(self.world, data.draw(st.sampled_from(self.wishes)), machine), until)

    @precondition(is_busy)
    @rule(which=st.integers(0, AT_ONCE - 1), until=st.sampled_from(POINTS))
    def go_on(self, which: int, until: Point) -> None:
        self.run(self.pick(which), until)

    @precondition(is_busy)
    @rule(which=st.integers(0, AT_ONCE - 1))
    def step(self, which: int) -> None:
        self.world.step(self.pick(which))

    @rule(data=st.data())
    def pass_time(self, data: st.DataObject) -> None:
        self.world.pass_time(data.draw(st.sampled_from(self.passing)))

    @precondition(lambda self: self.is_busy() and self.has_room())
    @rule(data=st.data(), until=st.sampled_from(POINTS))
    def overtake(self, data: st.DataObject, until: Point) -> None:
        """Whoever is at it is held up for longer than a lease, and somebody else comes."""
        self.world.pass_time(31.0)
        self.start_one(data, until)

    @precondition(lambda self: self.left > 0 and self.troubles)
    @rule(data=st.data(), which=st.integers(0, AT_ONCE - 1))
    def trouble(self, data: st.DataObject, which: int) -> None:
        what: Trouble = data.draw(st.sampled_from(self.troubles))
        self.left -= 1
        if what in ELSEWHERE:
            if self.has_room():
                machine = data.draw(st.sampled_from(ELSEWHERE[what]))
                self.start_one(data, data.draw(st.sampled_from(POINTS)), machine)
        elif what in PERSONS:
            self.by_person(what)
        elif self.is_busy():
            self.befall(self.pick(which), data, what)

    def befall(self, actor: Actor, data: st.DataObject, what: Trouble) -> None:
        if what == "crash":
            self.world.kill(actor)
        elif isinstance(actor, Worker):
            actor.fault = data.draw(st.sampled_from(FAILING[what]))

    def by_person(self, what: Trouble) -> None:
        if what == "reconnect":
            self.world.reconnect()
        elif what == "disconnect":
            self.world.disconnect()
        elif what == "revoked there":
            self.world.user_revokes()
        elif self.has_room() and not self.world.stored_grant.ended_by:
            self.world.consent_again()

    def pick(self, which: int) -> Actor:
        living = self.world.living()
        return living[which % len(living)]

    def run(self, actor: Actor, until: Point) -> None:
        """Step it up to, and not into, the point; past one where it already is."""
        if until == "end":
            return self.world.finish(actor)
        return self.world.run(actor, stops=WRITES if until == "write" else {until}, most=12)

    def teardown(self) -> None:
        """Everybody comes to an end, and then one more caller, undisturbed."""
        try:
            if not self.world.violations:
                self.end()
        finally:
            for actor in self.world.living():
                actor.kill()
            self.open.close()

    def end(self) -> None:
        world = self.world
        world.settle()
        if world.row.is_leased():
            world.pass_time(world.row.lease_until - world.clock.seconds)
        last = Worker(world, "forced")
        world.finish(last)
        world.came_out_right(last)
