"""Tables, in Markdown, of what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from benchmarks import comparison
from benchmarks.bars import BARS
from benchmarks.markdown import middle, ratios, table

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
            yield from section(title(results["options"]), TABLES[subject](measured))
            yield from verdicts(subject, measured)
    if results.get("imports"):
        yield from section("Imports, beyond Django alone", comparison.imports(results["imports"]))


def section(title: str, table: Iterable[str]) -> Iterable[str]:
    rows = list(table)
    while not rows[-1]:
        rows.pop()
    yield from ["", f"### {title}", "", *rows]


def verdicts(subject: str, measured: dict[str, Any]) -> Iterable[str]:
    if subject not in BARS:
        return
    yield ""
    for name, one in measured.items():
        yield from (f"- {name}: {bar}" for bar in BARS[subject](one))


def about(results: dict[str, Any]) -> Iterable[str]:
    machine = results["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    options = results["options"]
    yield f"Commit {machine['commit'] or 'unknown'}, {options['rounds']} rounds."
    yield f"{machine['system']}, {machine['cores']} cores (load {machine['load_at_start']} when it began)."
    yield f"{machine['python']}{', free-threaded' if machine['free_threaded'] else ''}, {packages}."
    if machine["others"]:
        others = ", ".join(f"{name} {version}" for name, version in machine["others"].items())
        yield f"Compared with: {others}."
    for name, one in results["databases"].items():
        durability = ", ".join(f"{key} {value}" for key, value in one["about"]["durability"].items())
        yield f"{name} {one['about']['version']} ({durability})."


# --- each subject ---------------------------------------------------------------------------------


def bulk(measured: dict[str, Any]) -> Iterable[str]:
    header = ("database", "recipe", "a second", "CPU µs", "statements", "by row", "peak MiB")
    header += ("read to committed, ms: median, p99, max", "sent to committed, ms: median, p99, max")
    each = [(name, recipe, one) for name, one in measured.items() for recipe in RECIPES]
    yield from table(header, [bulk_row(*case) for case in each])
    yield ""
    for name, one in measured.items():
        by_round = ratios(one["ours"], one["threads"], "per_second")
        rounds = ", ".join(f"{found:.2f}" for found in by_round)
        yield f"- {name}, {RECIPES['ours']} to threads, each round: {rounds}"


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


def both_ways(name: str, ours: Sequence[Any], theirs: Sequence[Any]) -> Sequence[object]:
    """By the clock, with ratios of the runs that followed one another; then of the processor."""
    found = sorted(ratios(ours, theirs))
    low, high = found[len(found) // 4], found[-1 - len(found) // 4]
    took, processor = (
        [f"{middle(runs, key):.0f}" for runs in (ours, theirs)] for key in ("took", "processor")
    )
    return (name, *took, f"{median(found):.2f}", f"{low:.2f} to {high:.2f}", *processor)


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
    "held_call": lambda o: "A call with a valid token, on a session that is held",
    "first_call": lambda o: "From the row to the first response",
    "callback": lambda o: "Connecting an account",
    "bulk": lambda o: f"{o['count']:,} due, a token request takes {o['latency']:.0f} ms",
    "memory": lambda o: f"Memory with {o['count']:,} and with {o['many']:,} due",
    "expiry": lambda o: "One expiry, 32 callers, until the last one has its answer",
    "due": lambda o: f"The next 500 due of {o['rows']:,}",
    "loaded": lambda o: f"The memory of {o['loaded']:,} loaded rows",
}
TABLES = {
    "held_call": comparison.held_call,
    "first_call": comparison.first_call,
    "callback": comparison.callback,
    "bulk": bulk,
    "memory": memory,
    "expiry": expiry,
    "due": due,
    "loaded": comparison.loaded,
}
