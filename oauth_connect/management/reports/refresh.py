"""The report of oauth_refresh: counts by provider and outcome, as lines and as a document."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from oauth_connect.jobs.refresh.availability import why_unavailable
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.outcomes import FAILED, OUTCOMES, Result
from oauth_connect.management.output import Tally, table

REASONS = {
    "provider_missing": 'not in OAUTH_CONNECT["PROVIDERS"]',
    "provider_disabled": "disabled in the settings",
    "invalid_settings": "its entry in the settings is wrong, see oauth_doctor",
    "back_off": "failed several times in a row; the back-off is not over",
}


@dataclass(frozen=True, slots=True)
class Idle:
    """A provider that the run skips, and how many of its connections are due."""

    outcome: str
    reason: str
    due: int


def idle(due: Due) -> dict[str, Idle]:
    """Return the providers that are not available now."""
    found = {}
    for slug in due.providers():
        outcome = why_unavailable(slug, due.alias)
        count = due.of(slug).count() if outcome is not None else 0
        if outcome is not None and (count or due.named):
            found[slug] = Idle(outcome.outcome, outcome.code, count)
    return found


def idle_lines(unavailable: Mapping[str, Idle]) -> Iterator[str]:
    for slug, entry in unavailable.items():
        yield f"{slug}: {REASONS[entry.reason]}; {entry.due} due, skipped."


def skipped(unavailable: Mapping[str, Idle]) -> dict[str, dict[str, object]]:
    return {slug: {"reason": entry.reason, "due": entry.due} for slug, entry in unavailable.items()}


class Report:
    """Counts the results of one pass."""

    def __init__(self, unavailable: Mapping[str, Idle]) -> None:
        self.unavailable = unavailable
        self.tally = Tally(OUTCOMES, FAILED)
        for slug, entry in unavailable.items():
            self.tally.add(slug, entry.outcome, number=entry.due)
        self.problem = ""
        self.stopped = False
        self.seconds = 0.0
        self._started = time.monotonic()

    def count(self, result: Result) -> None:
        self.tally.add(result.provider, result.outcome)

    def end(self, *, stopped: bool) -> None:
        self.stopped = stopped
        self.seconds = time.monotonic() - self._started

    def lines(self) -> Iterator[str]:
        if self.tally.total:
            yield from table(("provider", "outcome", "connections"), self.tally.rows())
        yield from idle_lines(self.unavailable)
        if self.stopped:
            yield "Stopped on request. The other connections stay due."
        yield f"{self.tally.total} connections in {self.seconds:.1f} s, {self.tally.failed} failed."

    def document(self) -> dict[str, object]:
        return {
            "dry_run": False,
            "total": self.tally.total,
            "failed": self.tally.failed,
            "stopped": self.stopped,
            "seconds": round(self.seconds, 3),
            "providers": self.tally.by_name(),
            "skipped": skipped(self.unavailable),
            "error": self.problem,
        }
