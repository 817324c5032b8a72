"""The tables in which the other packages stand beside this one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.bars import AUTHLIB, PLAIN
from benchmarks.imports import BASE
from benchmarks.markdown import middle, ratio, table

SITUATIONS = {
    "plain": "A new session for each call, http",
    "tls": "A new session for each call, https",
    "shared": "The row is loaded for each call, the session is shared",
}
STEPS = {
    "connect": "The view that begins",
    "callback": "The callback",
}


def held_call(measured: Mapping[str, Any]) -> Iterable[str]:
    yield from cases(measured, PLAIN)


def first_call(measured: Mapping[str, Any]) -> Iterable[str]:
    yield from several(measured, SITUATIONS, PLAIN)


def callback(measured: Mapping[str, Any]) -> Iterable[str]:
    yield from several(measured, STEPS, AUTHLIB)


def several(measured: Mapping[str, Any], titles: Mapping[str, str], base: str) -> Iterable[str]:
    for part, title in titles.items():
        yield from [f"#### {title}", ""]
        yield from cases({name: one[part] for name, one in measured.items()}, base)
        yield ""


def cases(measured: Mapping[str, Any], base: str) -> Iterable[str]:
    """A row for each way. For each database: the time, its ratio to the base, and the processor time."""
    first = next(iter(measured.values()))
    with_statements = "statements" in first
    header = ["", *(f"{name} {unit}" for name in measured for unit in ("µs", "ratio", "CPU µs"))]
    header += ["statements"] if with_statements else []
    yield from table(header, [case_row(name, measured, base, with_statements) for name in first["runs"]])
    if first["absent"]:
        yield from ["", f"Not installed: {', '.join(first['absent'])}."]


def case_row(name: str, measured: Mapping[str, Any], base: str, with_statements: bool) -> Sequence[object]:
    cells: list[object] = [name]
    for one in measured.values():
        runs = one["runs"]
        beside = f"{ratio(runs[name], runs[base]):.2f}" if base in runs else ""
        cells += [f"{middle(runs[name], 'took'):.0f}", beside, f"{middle(runs[name], 'processor'):.0f}"]
    if with_statements:
        counts = [f"{one['statements'][name]:g}" for one in measured.values()]
        cells.append(counts[0] if len(set(counts)) == 1 else ", ".join(counts))
    return cells


def loaded(measured: Mapping[str, Any]) -> Iterable[str]:
    first = next(iter(measured.values()))
    rows = [(name, *(f"{one['grown'][name]:.1f}" for one in measured.values())) for name in first["grown"]]
    yield from table(["", *(f"{name} MiB" for name in measured)], rows)


def imports(measured: Mapping[str, Any]) -> Iterable[str]:
    runs = measured["runs"]
    rows = [import_row(name, runs[name], runs[BASE]) for name in runs]
    yield from table(("", "CPU ms", "modules", "peak MiB"), rows)
    if measured["absent"]:
        yield from ["", f"Not installed: {', '.join(measured['absent'])}."]


def import_row(
    name: str, runs: Sequence[dict[str, float]], base: Sequence[dict[str, float]]
) -> Sequence[object]:
    """Django's own figures, and what each of the others adds to them."""
    less = base if name != BASE else [dict.fromkeys(base[0], 0.0)] * len(base)
    added = [{key: one[key] - of[key] for key in one} for one, of in zip(runs, less, strict=True)]
    plus = "" if name == BASE else "+"
    return (
        name,
        f"{plus}{middle(added, 'processor') * 1000:.0f}",
        f"{plus}{middle(added, 'modules'):.0f}",
        f"{plus}{middle(added, 'memory'):.1f}",
    )
