"""What the figures should be: a bar is a ratio of two ways within one run, and the limit for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.markdown import Runs, ratio

PLAIN = "requests, fixed header"
BY_USER = "`session_for(user, ...)`"
BY_KEY = "`objects.get(pk=...).session()`"
TOKEN = "`objects.get(pk=...).access_token()`"
FLOORS = frozenset({PLAIN, "a plain row and requests"})
OUR_FLOW = "oauth_connect"
OURS = frozenset({BY_USER, BY_KEY, TOKEN, OUR_FLOW})
AUTHLIB = "Authlib, with profile"
OVER_HTTPX = "Authlib (httpx)"


@dataclass(frozen=True)
class Bar:
    """A ratio by the clock and of the processor, None where it is not known. The clock's is compared."""

    what: str
    limit: float
    found: float | None
    processor: float | None = None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        if self.found is None:
            return "not measured"
        met = self.found >= self.limit if self.at_least else self.found <= self.limit
        return "met" if met else "not met"

    def __str__(self) -> str:
        found = "-" if self.found is None else f"{self.found:.2f}"
        processor = "" if self.processor is None else f" (CPU {self.processor:.2f})"
        limit = f"at {'least' if self.at_least else 'most'} {self.limit:g}"
        return f"{self.what}: {found}{processor}; bar: {limit}, **{self.verdict}**"


def compared(what: str, limit: float, runs: Runs, base: Runs | None, *, at_least: bool = False) -> Bar:
    if base is None:
        return Bar(what, limit, None, at_least=at_least)
    return Bar(what, limit, ratio(runs, base), ratio(runs, base, "processor"), at_least)


def others_of(runs: Mapping[str, Runs]) -> list[str]:
    return [name for name in runs if name not in OURS | FLOORS]


def best(runs: Mapping[str, Runs], base: str = PLAIN) -> str | None:
    """Return the quickest other package of a run."""
    return min(others_of(runs), key=lambda name: ratio(runs[name], runs[base]), default=None)


def held_call(measured: Any) -> Iterable[Bar]:
    runs = measured["runs"]
    yield compared("to requests with a fixed header", 0.90, runs[BY_KEY], runs[PLAIN])


def first_call(measured: Any) -> Iterable[Bar]:
    plain, tls, shared = (measured[situation]["runs"] for situation in ("plain", "tls", "shared"))
    for name, limit in ((BY_USER, 0.95), (BY_KEY, 1.05)):
        yield beside_best(f"http, {name}", limit, plain, name)
    rival = best({name: runs for name, runs in tls.items() if name != OVER_HTTPX})
    for name in (BY_USER, BY_KEY):
        what = f"https, {rival or 'another package over requests'} to {name}"
        base = tls[name] if rival else None
        yield compared(what, 5, tls.get(rival, []), base, at_least=True)
    for name in (BY_USER, BY_KEY):
        yield beside_best(f"shared session, {name}", 1.10, shared, name)


def beside_best(what: str, limit: float, runs: Mapping[str, Runs], name: str) -> Bar:
    rival = best(runs)
    return compared(f"{what} to {rival or 'another package'}", limit, runs[name], runs.get(rival or ""))


def callback(measured: Any) -> Iterable[Bar]:
    runs, statements = measured["callback"]["runs"], measured["callback"]["statements"]
    yield compared(f"callback to {AUTHLIB}", 1.3, runs[OUR_FLOW], runs.get(AUTHLIB))
    more = statements[OUR_FLOW] - statements[AUTHLIB] if AUTHLIB in statements else None
    yield Bar(f"statements of the callback more than {AUTHLIB}", 3, more)


def bulk(measured: Any) -> Iterable[Bar]:
    found = ratio(measured["ours"], measured["threads"], "per_second")
    used = ratio(measured["ours"], measured["threads"], "processor_us")
    yield Bar("refreshes a second to 64 threads with one writer", 1.15, found, used, at_least=True)


def expiry(measured: Any) -> Iterable[Bar]:
    yield compared("to the lease recipe", 1.05, measured["ours"], measured["lease"])


BARS: dict[str, Callable[[Any], Iterable[Bar]]] = {
    "held_call": held_call,
    "first_call": first_call,
    "callback": callback,
    "bulk": bulk,
    "expiry": expiry,
}
