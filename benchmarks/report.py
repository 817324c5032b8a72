"""Tables, in Markdown, of what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

RECIPES = {
    "ours": "`oauth_refresh`",
    "threads": "64 threads, one writer",
    "loop": "a loop",
}
MILLISECONDS = ("median", "p99", "max")


def lines(results: dict[str, Any]) -> Iterable[str]:
    yield from about(results)
    for subject, title in TITLES.items():
        measured = {name: one[subject] for name, one in results["databases"].items() if subject in one}
        if measured:
            yield from ["", f"## {title(results['options'])}", ""]
            yield from TABLES[subject](measured)


def about(results: dict[str, Any]) -> Iterable[str]:
    machine = results["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    yield f"{machine['system']}, {machine['cores']} cores (load {machine['load_at_start']} when it began)."
    yield f"{machine['python']}, {packages}."
    for name, one in results["databases"].items():
        durability = ", ".join(f"{key} {value}" for key, value in one["about"]["durability"].items())
        yield f"{name} {one['about']['version']} ({durability})."


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterable[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"


def middle(runs: Sequence[dict[str, Any]], key: str) -> float:
    return median(run[key] for run in runs)


# --- each subject ---------------------------------------------------------------------------------


def bulk(measured: dict[str, Any]) -> Iterable[str]:
    header = ("database", "recipe", "a second", "CPU µs", "statements", "by row", "peak MiB")
    header += ("read to committed, ms: median, p99, max", "sent to committed, ms: median, p99, max")
    each = [(name, recipe, one) for name, one in measured.items() for recipe in RECIPES]
    yield from table(header, [bulk_row(*case) for case in each])
    yield ""
    for name, one in measured.items():
        rates = [[run["per_second"] for run in one[which]] for which in ("ours", "threads")]
        ratios = [ours / theirs for ours, theirs in zip(*rates, strict=True)]
        by_round = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        yield f"- {name}, {RECIPES['ours']} to threads: {by_round}; median {median(ratios):.2f}"


def bulk_row(name: str, recipe: str, measured: dict[str, Any]) -> Sequence[object]:
    runs = measured[recipe]
    return (
        name,
        RECIPES[recipe],
        f"{middle(runs, 'per_second'):.0f}",
        f"{middle(runs, 'processor_us'):.0f}",
        f"{middle(runs, 'statements'):.2f}",
        f"{middle(runs, 'statements_by_row'):.2f}",
        f"{middle(runs, 'memory_peak'):.0f}",
        waits(runs, "since_read"),
        waits(runs, "since_sent"),
    )


def waits(runs: Sequence[dict[str, Any]], name: str) -> str:
    if f"{name}_median" not in runs[0]:
        return ""
    return ", ".join(f"{middle(runs, f'{name}_{which}'):.0f}" for which in MILLISECONDS)


def memory(measured: dict[str, Any]) -> Iterable[str]:
    header = ("database", "due", "MiB before", "peak MiB", "due", "MiB before", "peak MiB", "peak grows by")
    yield from table(header, [memory_row(name, *runs) for name, runs in measured.items()])


def memory_row(name: str, few: dict[str, Any], many: dict[str, Any]) -> Sequence[object]:
    cells: list[object] = [name]
    for run in (few, many):
        before = run["memory_peak"] - run["memory_growth"]
        cells += [f"{run['due']:,}", f"{before:.1f}", f"{run['memory_peak']:.1f}"]
    return [*cells, f"{many['memory_peak'] - few['memory_peak']:.1f} MiB"]


def expiry(measured: dict[str, Any]) -> Iterable[str]:
    header = ("database", "ours, ms", "lease recipe, ms", "ratio", "middle half of the ratios")
    header += ("ours, CPU ms of all", "lease recipe, CPU ms of all")
    yield from table(header, [both_ways(name, one["ours"], one["lease"]) for name, one in measured.items()])


def call(measured: dict[str, Any]) -> Iterable[str]:
    header = ("database", "ours, µs", "requests, µs", "ratio", "middle half of the ratios")
    header += ("ours, CPU µs", "requests, CPU µs")
    yield from table(header, [both_ways(name, one["ours"], one["plain"]) for name, one in measured.items()])


def both_ways(name: str, ours: Sequence[Any], theirs: Sequence[Any]) -> Sequence[object]:
    """By the clock, with ratios of the runs that followed one another; then of the processor."""
    pairs = zip(ours, theirs, strict=True)
    ratios = sorted(our["took"] / their["took"] for our, their in pairs)
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    took, processor = (
        [f"{middle(runs, key):.0f}" for runs in (ours, theirs)] for key in ("took", "processor")
    )
    return (name, *took, f"{median(ratios):.2f}", f"{low:.2f} to {high:.2f}", *processor)


def due(measured: dict[str, Any]) -> Iterable[str]:
    header = ("database", "rows", "due", "query, ms", "select and claim, ms", "ratio")
    states = [(name, state) for name, one in measured.items() for state in one]
    yield from table(header, [due_row(name, state) for name, state in states])
    yield ""
    for name, state in states:
        yield f"- {name}, {state['number_due']:,} due: {steps(state['plan'])}"


def steps(plan: Sequence[str]) -> str:
    """Leave out costs and conditions, which PostgreSQL gives lines of their own."""
    nodes = [line for line in plan if "(cost=" in line] or plan
    return "; ".join(f"`{line.partition('(cost=')[0].strip(' ->')}`" for line in nodes)


def due_row(name: str, state: dict[str, Any]) -> Sequence[object]:
    times = (f"{state['query']:.1f}", f"{state['claim']:.1f}", f"{state['ratio']:.2f}")
    return (name, f"{state['rows']:,}", f"{state['number_due']:,}", *times)


TITLES = {
    "bulk": lambda o: f"{o['count']:,} due, a token request takes {o['latency']:.0f} ms",
    "memory": lambda o: f"Memory with {o['count']:,} and with {o['many']:,} due",
    "expiry": lambda o: "One expiry, 32 callers, until the last one has its answer",
    "due": lambda o: f"The next 500 due of {o['rows']:,}",
    "call": lambda o: "A call with a valid token",
}
TABLES = {"bulk": bulk, "memory": memory, "expiry": expiry, "due": due, "call": call}
