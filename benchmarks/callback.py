"""A user connects an account, by Django's test client: the view that begins, and the callback with a code.

The account is connected again and again: the callback checks the state, exchanges the code, asks for the
profile where the package does, and stores the token. Sessions are in the database.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.contrib.auth.models import User
from django.test import Client

from benchmarks import child, others, server
from benchmarks.authority import Authority
from benchmarks.meter import Cost, counting
from benchmarks.others.flows import FLOWS, Flow
from benchmarks.others.installed import migrate

BLOCKS = 2  # a round
SHARE = 10  # of the calls
STARTED = 301, 302, 303


def measure(authority: Authority, *, rounds: int, calls: int, **_: Any) -> Any:
    authority.prepare(grants=1, latency=0)
    return child.among_others(authority, by_turns, rounds=rounds * BLOCKS, calls=max(3, calls // SHARE))


def by_turns(rounds: int, calls: int) -> dict[str, Any]:
    migrate()
    user, _ = User.objects.get_or_create(username="connects", email=server.PROFILE["email"])
    flows = {flow.name: Browser(flow, user) for flow in FLOWS if flow.is_installed}
    found: dict[str, dict[str, list[Any]]] = {"connect": {}, "callback": {}}
    names = list(flows)
    for number in range(-1, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            steps = [flows[name].connects() for _ in range(calls)]
            for step, runs in found.items():
                if number >= 0:
                    runs.setdefault(name, []).append(summary([one[step] for one in steps]))
    statements = {step: {n: r[-1]["statements"] for n, r in runs.items()} for step, runs in found.items()}
    return {
        step: {"runs": runs, "statements": statements[step], "absent": others.absent()}
        for step, runs in found.items()
    }


def summary(costs: list[dict[str, float]]) -> dict[str, float]:
    return {
        "took": median(cost["took"] for cost in costs),
        "processor": sum(cost["processor"] for cost in costs) / len(costs),
        "statements": costs[-1]["statements"],
    }


class Browser:
    """A signed-in user's browser, that connects an account by one package."""

    def __init__(self, flow: Flow, user: User) -> None:
        self.flow = flow
        self.client = Client()
        self.client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")

    def connects(self) -> dict[str, dict[str, float]]:
        """Return what both steps cost. Raises AssertionError unless they end in a redirect."""
        begin = self.client.post if self.flow.begins_with_post else self.client.get
        answer, connect = costs(partial(begin, self.flow.begin))
        assert answer.status_code in STARTED, (self.flow.name, answer.status_code, answer.content[:300])
        state = parse_qs(urlsplit(answer["Location"]).query)["state"][0]
        query = {"code": "code", "state": state}
        answer, callback = costs(partial(self.client.get, self.flow.callback, query))
        assert answer.status_code in STARTED, (self.flow.name, answer.status_code, answer.content[:300])
        assert self.flow.is_success(answer), (self.flow.name, answer["Location"])
        return {"connect": connect, "callback": callback}


def costs(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return an answer, and what it cost: microseconds of the clock and the processor, statements."""
    cost = Cost()
    with counting(cost):
        started, processor = time.perf_counter(), time.process_time()
        answer = work()
        took, used = time.perf_counter() - started, time.process_time() - processor
    return answer, {"took": took * 1e6, "processor": used * 1e6, "statements": cost.statements}
