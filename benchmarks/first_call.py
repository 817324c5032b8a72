"""From the row to the first response: load the row, make a session, call.

`plain` and `tls`: a new session for each call, as in a view. `shared`: the row is loaded for each call, and
the tokens of the other packages are sent by one `requests.Session`, whose connection stays open.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import requests

from benchmarks import child, others, turns
from benchmarks.authority import Authority
from benchmarks.others.installed import prepared

BLOCKS = 2  # a round
SHARE = {"plain": 4, "tls": 10, "shared": 2}  # of the calls: without a kept connection a call takes longer


def measure(authority: Authority, *, rounds: int, calls: int, **_: Any) -> Any:
    authority.prepare(grants=1, latency=0)
    return {
        situation: child.among_others(
            authority,
            by_turns,
            tls=situation == "tls",
            situation=situation,
            rounds=rounds * BLOCKS,
            calls=max(3, calls // share),
        )
        for situation, share in SHARE.items()
    }


def by_turns(situation: str, rounds: int, calls: int) -> dict[str, Any]:
    cases = shared_cases() if situation == "shared" else first_cases()
    return {
        "runs": turns.in_turn(cases, rounds=rounds, calls=calls),
        "statements": turns.statements(cases),
        "absent": others.absent(),
    }


def first_cases() -> dict[str, Callable[[], Any]]:
    return {recipe.name: recipe.first_call for recipe in prepared("first_call")}


def shared_cases() -> dict[str, Callable[[], Any]]:
    http = requests.Session()
    return {recipe.name: partial(recipe.call_on, http) for recipe in prepared("call_on")}
