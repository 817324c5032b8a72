"""A call with a valid token on a session that is held, beside one of requests with a fixed header."""

from __future__ import annotations

from typing import Any

from benchmarks import child, others, turns
from benchmarks.authority import Authority
from benchmarks.others.installed import prepared

BLOCKS = 3  # a round


def measure(authority: Authority, *, rounds: int, calls: int, **_: Any) -> Any:
    authority.prepare(grants=1, latency=0)
    return child.among_others(authority, by_turns, rounds=rounds * BLOCKS, calls=calls)


def by_turns(rounds: int, calls: int) -> dict[str, Any]:
    cases = {recipe.name: recipe.held() for recipe in prepared("held")}
    return {"runs": turns.in_turn(cases, rounds=rounds, calls=calls), "absent": others.absent()}
