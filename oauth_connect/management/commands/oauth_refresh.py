from __future__ import annotations

import argparse
import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.db import DatabaseError

from oauth_connect.conf import conf
from oauth_connect.flows.refresh_due import FAILED, OUTCOMES, Due, Result, in_turn, refresh_due, unusable
from oauth_connect.management.command import Command as Base
from oauth_connect.management.command import database_problem, stop_request, table

LONGEST_WITHIN = 366 * 24 * 3600
REASONS = {
    "provider_missing": 'not in OAUTH_CONNECT["PROVIDERS"]',
    "provider_disabled": "turned off in the settings",
    "invalid_settings": "its entry in the settings is wrong, see oauth_doctor",
}


def seconds(text: str) -> timedelta:
    return timedelta(seconds=whole(text, 0, LONGEST_WITHIN))


def positive(text: str) -> int:
    return whole(text, 1, None)


def whole(text: str, least: int, most: int | None) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < least or (most is not None and number > most):
        raise argparse.ArgumentTypeError(f"{number} is out of range")
    return number


class Command(Base):
    help = "Refreshes the tokens that are due. Any number of these may run at once, on any machine."
    examples = """\
  manage.py oauth_refresh                        from cron, every few minutes
  manage.py oauth_refresh --dry-run              what would be refreshed
  manage.py oauth_refresh --provider NAME --provider OTHER --limit 500
  manage.py oauth_refresh --within 3600 --json   what runs out within the hour"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--provider", action="append", default=[], metavar="SLUG", help="only this one (repeatable)"
        )
        parser.add_argument(
            "--within",
            type=seconds,
            default=timedelta(0),
            metavar="SECONDS",
            help="also what falls due within so many seconds",
        )
        parser.add_argument("--limit", type=positive, metavar="N", help="stop after N connections")
        parser.add_argument("--dry-run", action="store_true", help="say what is due and send nothing")

    def work(self, **options: Any) -> None:
        self._check(options["provider"])
        due = Due(options["provider"], options["within"])
        counts = due.counts() if options["dry_run"] else {}
        idle = self._idle(due)
        if options["dry_run"]:
            self._foretell(counts, idle, options["limit"])
        else:
            self._refresh(due, idle, options["limit"])

    def _check(self, slugs: Iterable[str]) -> None:
        _ = (
            conf.keys,
            conf.provider_slugs,
            conf.refresh_leeway,
            conf.http_timeout,
        )  # nothing could be refreshed without
        for slug in slugs:
            verdict = unusable(slug)
            if verdict is not None and verdict.code == "provider_missing":
                conf.declared_provider(slug)  # says which there are

    def _idle(self, due: Due) -> dict[str, tuple[str, str, int]]:
        """Return outcome, reason and number for each provider of which nothing can be refreshed."""
        found = {}
        for slug in due.providers():
            verdict = unusable(slug)
            count = due.of(slug).count() if verdict is not None else 0
            if verdict is not None and (count or due.named):
                found[slug] = (str(verdict.outcome), verdict.code, count)
        return found

    # --- --dry-run ------------------------------------------------------------------------------

    def _foretell(
        self, counts: Mapping[str, int], idle: Mapping[str, tuple[str, str, int]], limit: int | None
    ) -> None:
        queues = [itertools.repeat(slug, count) for slug, count in counts.items() if slug not in idle]
        would = Counter(itertools.islice(in_turn(queues), limit))
        for text in table(("provider", "would be refreshed"), sorted(would.items())) if would else ():
            self.line(text)
        self._tell_idle(idle)
        self.line(f"{would.total()} connections would be refreshed; nothing was sent.")
        self.document(
            {
                "dry_run": True,
                "total": would.total(),
                "due": dict(sorted(would.items())),
                "skipped": self._skipped(idle),
            }
        )

    # --- the work -------------------------------------------------------------------------------

    def _refresh(self, due: Due, idle: Mapping[str, tuple[str, str, int]], limit: int | None) -> None:
        started = time.monotonic()
        tally: Counter[tuple[str, str]] = Counter()
        tally.update({(slug, outcome): count for slug, (outcome, _, count) in idle.items() if count})
        problem = ""
        with stop_request() as asked:
            try:
                for result in itertools.islice(refresh_due(due), limit):
                    tally[result.provider, result.outcome] += 1
                    self._tell(result)
                    if asked.is_set():
                        break
            except DatabaseError as error:
                problem = database_problem(error)
            stopped = asked.is_set()
        self._report(tally, idle, stopped, time.monotonic() - started, problem)

    def _tell(self, result: Result) -> None:
        code = f" ({result.code})" if result.code else ""
        self.line(f"{result.provider} {result.connection}: {words(result.outcome)}{code}", verbosity=2)

    def _report(
        self,
        tally: Counter[tuple[str, str]],
        idle: Mapping[str, tuple[str, str, int]],
        stopped: bool,
        took: float,
        problem: str,
    ) -> None:
        failed = sum(count for (_, outcome), count in tally.items() if outcome in FAILED)
        total = tally.total()
        for text in table(("provider", "outcome", "connections"), list(lines(tally))) if total else ():
            self.line(text)
        self._tell_idle(idle)
        if stopped:
            self.line("Stopped as asked; the rest stays due.")
        self.line(f"{total} connections in {took:.1f} s, {failed} failed.")
        self.document(
            {
                "dry_run": False,
                "total": total,
                "failed": failed,
                "stopped": stopped,
                "seconds": round(took, 3),
                "providers": by_provider(tally),
                "skipped": self._skipped(idle),
                "error": problem,
            }
        )
        if problem:
            self.fail(problem)
        if failed:
            self.fail(f"{failed} of {total} connections could not be refreshed.")

    def _tell_idle(self, idle: Mapping[str, tuple[str, str, int]]) -> None:
        for slug, (_, reason, count) in idle.items():
            self.line(f"{slug}: {REASONS[reason]}; {count} due, left alone.")

    def _skipped(self, idle: Mapping[str, tuple[str, str, int]]) -> dict[str, dict[str, object]]:
        return {slug: {"reason": reason, "due": count} for slug, (_, reason, count) in idle.items()}


def words(outcome: str) -> str:
    return outcome.replace("_", " ")


def lines(tally: Mapping[tuple[str, str], int]) -> Iterator[tuple[str, str, int]]:
    for slug, outcomes in by_provider(tally).items():
        for outcome, count in outcomes.items():
            if count:
                yield slug, words(outcome), count


def by_provider(tally: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """Return the number of each outcome, the zeros too, for each provider."""
    slugs = sorted({slug for slug, _ in tally})
    return {slug: {outcome: tally.get((slug, outcome), 0) for outcome in OUTCOMES} for slug in slugs}
