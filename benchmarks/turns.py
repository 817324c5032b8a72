"""Several ways to do the same, one after the other in each round, so that a slow minute slows all of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from benchmarks.meter import Cost, counting

COUNTED = 3
Work = Callable[[], Any]


def in_turn(cases: Mapping[str, Work], *, rounds: int, calls: int) -> dict[str, list[dict[str, float]]]:
    """Measure each case in each round. The order moves on by one a round.

    Of a block of calls: the median of the clock, and the mean of the processor, in microseconds.
    """
    names = list(cases)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(-1, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            took = block(cases[name], calls)
            if number >= 0:  # the first round fills caches and opens connections
                found[name].append(took)
    return found


def block(work: Work, calls: int) -> dict[str, float]:
    gc.collect()  # what the case before left
    clock, times = time.perf_counter, []
    processor = time.process_time()
    for _ in range(calls):
        started = clock()
        work()
        times.append(clock() - started)
    used = time.process_time() - processor
    return {"took": median(times) * 1e6, "processor": used / calls * 1e6}


def statements(cases: Mapping[str, Work]) -> dict[str, float]:
    """Return how many statements a call of each case sends to the database."""
    return {name: counted(work) for name, work in cases.items()}


def counted(work: Work) -> float:
    work()
    cost = Cost()
    with counting(cost):
        for _ in range(COUNTED):
            work()
    return cost.statements / COUNTED
