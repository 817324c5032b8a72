"""The state machine: Hypothesis decides who runs how far, who dies, what fails and how much time passes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar, get_args

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.engine.model.baton import Actor
from tests.engine.model.provider import KINDS, Kind
from tests.engine.model.worker import WISHES, Fault, Machine, Wish, Worker
from tests.engine.model.world import Parts, World

AT_ONCE = 4
Point = Literal["claim", "check_writable", "send", "receive", "write", "end"]
POINTS: tuple[Point, ...] = get_args(Point)
WRITES = {"save", "defer", "mark", "release", "store"}
# More than the margin, an HTTP time-out, a lease; until the leeway, and past the life, of an access token.
PASSING = (6.0, 16.0, 31.0, 80.0, 101.0)
HELD_UP = 31.0
AGES = (0.0, 80.0, 101.0)

Trouble = Literal[
    "crash",
    "request lost",
    "answer lost",
    "odd answer",
    "other account",
    "other issuer",
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
    "request lost": ("lost before",),
    "answer lost": ("lost after",),
    "odd answer": ("odd",),
    "other account": ("other sub",),
    "other issuer": ("other iss",),
    "provider ill": ("http_503", "unreachable"),
    "wrong settings": ("invalid_client",),
}

PERSONS: tuple[Trouble, ...] = ("reconnect", "consent again", "disconnect", "revoked there")

# Chooses among up to six, or twelve, equally often. What there is to choose from differs by the search, and
# an argument of a rule costs Hypothesis less than st.data() does.
CHOICE = st.integers(0, 59)
Option = TypeVar("Option")
Move = Callable[[int, int, int], None]


def one_of(options: Sequence[Option], choice: int) -> Option:
    return options[choice % len(options)]


class LeaseProtocol(RuleBasedStateMachine):
    """Workers at one connection. ``troubles``: what may happen, each a few times in a run."""

    parts = Parts()
    kinds: tuple[Kind, ...] = KINDS
    troubles: tuple[Trouble, ...] = TROUBLES
    wishes: tuple[Wish, ...] = WISHES
    passing: tuple[float, ...] = PASSING
    points: tuple[Point, ...] = POINTS

    def __init__(self) -> None:
        super().__init__()
        self.open = contextlib.ExitStack()
        self.world = World(self.kinds[0])
        self.left = 0

    @initialize(kind=CHOICE, troubles=st.integers(1, 4), age=CHOICE)
    def begin(self, kind: int, troubles: int, age: int) -> None:
        self.world = World(one_of(self.kinds, kind), self.parts)
        self.open.enter_context(self.world.time())
        self.left = troubles
        self.world.pass_time(one_of(AGES, age))

    def has_room(self) -> bool:
        return len(self.world.living()) < AT_ONCE

    def is_busy(self) -> bool:
        return bool(self.world.living())

    @rule(what=CHOICE, which=CHOICE, how=CHOICE, until=CHOICE)
    def move(self, what: int, which: int, how: int, until: int) -> None:
        """One rule for all moves: of several, Hypothesis leaves some out in each run, and little happens."""
        one_of(self.moves(), what)(which, how, until)

    def moves(self) -> list[Move]:
        busy, room = self.is_busy(), self.has_room()
        possible: dict[Move, object] = {
            self.start: room,
            self.go_on: busy,
            self.step: busy and self.points == POINTS,
            self.overtake: busy and room,
            self.pass_time: self.passing,
            self.trouble: self.left > 0 and self.troubles,
        }
        return [move for move, there in possible.items() if there]

    def start(self, which: int, how: int, until: int) -> None:
        self.start_one(how, until)

    def start_one(self, wish: int, until: int, machine: Machine | None = None, fault: Fault = "") -> None:
        worker = Worker(self.world, one_of(self.wishes, wish), machine)
        worker.fault = fault
        self.run(worker, until)

    def go_on(self, which: int, how: int, until: int) -> None:
        self.run(self.pick(which), until)

    def step(self, which: int, how: int, until: int) -> None:
        self.world.step(self.pick(which))

    def overtake(self, which: int, how: int, until: int) -> None:
        """Whoever is at it is held up for longer than a lease, and somebody else comes."""
        self.world.pass_time(HELD_UP)
        self.start_one(how, until)

    def pass_time(self, which: int, how: int, until: int) -> None:
        self.world.pass_time(one_of(self.passing, how))

    def trouble(self, which: int, how: int, until: int) -> None:
        self.left -= 1
        trouble = one_of(self.troubles, how)
        if trouble == "crash":
            self.crash(which)
        elif trouble in PERSONS:
            self.by_person(trouble)
        elif trouble in FAILING:
            self.fail(which, one_of(FAILING[trouble], how // len(self.troubles)), until)
        elif self.has_room():
            self.start_one(which, until, one_of(ELSEWHERE[trouble], how // len(self.troubles)))

    def crash(self, which: int) -> None:
        if self.is_busy():
            self.world.kill(self.pick(which))

    def fail(self, which: int, fault: Fault, until: int) -> None:
        """The next request fails: of one who is at it already, who comes now, or who overtakes."""
        actor = one_of([*self.world.living(), "comes", "overtakes"], which)
        if isinstance(actor, Worker):
            actor.fault = fault
        elif self.has_room():
            self.world.pass_time(HELD_UP if actor == "overtakes" else 0.0)
            self.start_one(which // 6, until, fault=fault)

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
        return one_of(self.world.living(), which)

    def run(self, actor: Actor, until: int) -> None:
        """Step it up to, and not into, the point; past one where it already is."""
        point = one_of(self.points, until)
        if point == "end":
            return self.world.finish(actor)
        return self.world.run(actor, stops=WRITES if point == "write" else {point}, most=12)

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
