"""Many connections are due: the command, beside 64 threads with one writer, and a loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import StringIO
from typing import Any

from django.core.management import call_command
from django.db import connection

from benchmarks import child, rows, watching
from benchmarks.authority import Authority
from benchmarks.meter import metered
from benchmarks.reference import recipes

LOOPED = 100  # a loop is slow enough to be known after these


def measure(
    authority: Authority, *, rounds: int, count: int, latency: float, workers: int | None, **_: Any
) -> Any:
    """Ours and the reference in turn; which of them begins changes too."""
    found: dict[str, list[Any]] = {"ours": [], "threads": [], "loop": []}
    for number in range(rounds):
        turns = [("ours", command), ("threads", threads)]
        for name, work in turns if number % 2 else turns[::-1]:
            found[name].append(work(authority, count, latency, workers=workers))
        found["loop"].append(loop(authority, min(LOOPED, count), latency))
    return found


# --- in a process of its own ----------------------------------------------------------------------


def by_command(arguments: list[str], watched: bool = True) -> dict[str, Any]:
    """Run `oauth_refresh` as it is typed. `watched`: note when each answer was read and saved."""
    connection.ensure_connection()
    with watching.of_command(watched) as moments, metered() as cost:
        call_command("oauth_refresh", *arguments, verbosity=0, stdout=StringIO())
    return {**cost.as_dict(), **moments.as_dict()}


def by_threads() -> dict[str, Any]:
    connection.ensure_connection()
    with watching.of_reference() as moments, metered() as cost:

        def note(keys: list[int]) -> None:
            moments.committed.update(dict.fromkeys((key - 1 for key in keys), time.monotonic()))

        recipes.refresh_in_threads(note)
    return {**cost.as_dict(), **moments.as_dict()}


def by_loop() -> dict[str, Any]:
    connection.ensure_connection()
    with metered() as cost:
        recipes.refresh_serially()
    return {**cost.as_dict(), "read": {}, "committed": {}}


# --- who has it measured --------------------------------------------------------------------------


class Lost(Exception):
    """A measurement counts for nothing: not everything was refreshed once and saved."""


def command(
    authority: Authority,
    count: int,
    latency: float,
    *,
    workers: int | None = None,
    watched: bool = True,
) -> Any:
    rows.connections(count)
    authority.prepare(grants=count, latency=latency)
    arguments = [] if workers is None else [f"--workers={workers}"]
    run = child.measured(authority, by_command, arguments=arguments, watched=watched)
    return judged(authority, count, run, rows.lost_connections)


def threads(authority: Authority, count: int, latency: float, **_: Any) -> Any:
    rows.reference_tokens(count)
    authority.prepare(grants=count, latency=latency)
    return judged(authority, count, child.measured(authority, by_threads), rows.lost_reference_tokens)


def loop(authority: Authority, count: int, latency: float) -> Any:
    rows.reference_tokens(count)
    authority.prepare(grants=count, latency=latency)
    return judged(authority, count, child.measured(authority, by_loop), rows.lost_reference_tokens)


def judged(
    authority: Authority, count: int, run: dict[str, Any], lost: Callable[[dict[int, int]], list[int]]
) -> dict[str, Any]:
    """Return the figures of a run, for each refresh. Raises Lost."""
    report = authority.report()
    if report.get("rotations") != count or report.get("reuses") or report.get("unknown"):
        raise Lost(f"of {count} refreshes the server saw {report}")
    if missing := lost(authority.generations()):
        raise Lost(f"not in the database: {len(missing)} tokens, of grant {missing[0]} and others")
    read, committed = (
        {int(family): moment for family, moment in run[name].items()} for name in ("read", "committed")
    )
    return {
        "per_second": count / run["seconds"],
        "processor_us": run["processor_seconds"] / count * 1e6,
        "statements": run["statements"] / count,
        "statements_by_row": run["statements_by_row"] / count,
        "memory_peak": run["resident_peak"],
        "memory_growth": run["resident_peak"] - run["resident_before"],
        "most_at_once": report["most_at_once"],
        **watching.waits("since_read", read, committed),
        **watching.waits("since_sent", authority.sent(), committed),
    }
