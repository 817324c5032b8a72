"""What a run of oauth_refresh did, counted by provider and outcome, as lines and as a document."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from oauth_connect.jobs.refresh.availability import why_unavailable
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.outcomes import FAILED, OUTCOMES, Result
from oauth_connect.management.command import by_provider, table, words

REASONS = {
    "provider_missing": 'not in OAUTH_CONNECT["PROVIDERS"]',
    "provider_disabled": "turned off in the settings",
    "invalid_settings": "its entry in the settings is wrong, see oauth_doctor",
    "back_off": "has failed several times in a row and is left alone for a while",
}


@dataclass(frozen=True, slots=True)
class Idle:
    """A provider of which nothing is tried, and how many of its connections are due."""

    outcome: str
    reason: str
    due: int


def idle(due: Due) -> dict[str, Idle]:
    """Return the providers of which nothing can be refreshed now."""
    found = {}
    for slug in due.providers():
        verdict = why_unavailable(slug, due.alias)
        count = due.of(slug).count() if verdict is not None else 0
        if verdict is not None and (count or due.named):
            found[slug] = Idle(verdict.outcome, verdict.code, count)
    return found


def idle_lines(left_alone: Mapping[str, Idle]) -> Iterator[str]:
    for slug, one in left_alone.items():
        yield f"{slug}: {REASONS[one.reason]}; {one.due} due, left alone."


def skipped(left_alone: Mapping[str, Idle]) -> dict[str, dict[str, object]]:
    return {slug: {"reason": one.reason, "due": one.due} for slug, one in left_alone.items()}


class Report:
    """The tally of one pass."""

    def __init__(self, left_alone: Mapping[str, Idle]) -> None:
        self.left_alone = left_alone
        self.tally = Counter({(slug, one.outcome): one.due for slug, one in left_alone.items() if one.due})
        self.problem = ""
        self.stopped = False
        self.seconds = 0.0
        self._started = time.monotonic()

    def count(self, result: Result) -> None:
        self.tally[result.provider, result.outcome] += 1

    def end(self, *, stopped: bool) -> None:
        self.stopped = stopped
        self.seconds = time.monotonic() - self._started

    @property
    def total(self) -> int:
        return self.tally.total()

    @property
    def failed(self) -> int:
        return sum(count for (_, outcome), count in self.tally.items() if outcome in FAILED)

    def lines(self) -> Iterator[str]:
        if self.total:
            yield from table(("provider", "outcome", "connections"), list(self._rows()))
        yield from idle_lines(self.left_alone)
        if self.stopped:
            yield "Stopped as asked; the rest stays due."
        yield f"{self.total} connections in {self.seconds:.1f} s, {self.failed} failed."

    def document(self) -> dict[str, object]:
        return {
            "dry_run": False,
            "total": self.total,
            "failed": self.failed,
            "stopped": self.stopped,
            "seconds": round(self.seconds, 3),
            "providers": by_provider(self.tally, OUTCOMES),
            "skipped": skipped(self.left_alone),
            "error": self.problem,
        }

    def _rows(self) -> Iterator[tuple[str, str, int]]:
        for slug, outcomes in by_provider(self.tally, OUTCOMES).items():
            for outcome, count in outcomes.items():
                if count:
                    yield slug, words(outcome), count
