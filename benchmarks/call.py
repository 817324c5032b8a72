"""What a valid token adds to a call: a connection's session beside one of requests with a fixed header."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import requests
from django.conf import settings

from benchmarks import child, rows
from benchmarks.authority import Authority
from oauth_connect.models import Connection

CALLS = 200
BLOCKS = 5  # a round


def measure(authority: Authority, *, rounds: int, **_: Any) -> Any:
    rows.connections(1)
    authority.prepare(grants=1, latency=0)
    return child.measured(authority, by_turns, blocks=rounds * BLOCKS)


def by_turns(blocks: int) -> dict[str, list[dict[str, float]]]:
    """Microseconds a call, by the clock and of the processor, on a kept connection; the two in turn."""
    row = Connection.objects.get()
    row.refresh()
    ours, plain = row.session(), requests.Session()
    plain.headers["Authorization"] = f"Bearer {row.access_token()}"
    url = f"{settings.AUTHORITY}/api"
    recipes: dict[str, Callable[[], Any]] = {"ours": lambda: ours.get(url), "plain": lambda: plain.get(url)}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in recipes}
    for number in range(-1, blocks):
        for name in sorted(recipes, reverse=bool(number % 2)):
            took = microseconds(recipes[name])
            if number >= 0:
                found[name].append(took)
    return found


def microseconds(call: Callable[[], Any]) -> dict[str, float]:
    started, processor = time.perf_counter(), time.process_time()
    for _ in range(CALLS):
        call().raise_for_status()
    return {
        "took": (time.perf_counter() - started) / CALLS * 1e6,
        "processor": (time.process_time() - processor) / CALLS * 1e6,
    }
