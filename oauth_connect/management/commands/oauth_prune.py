from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandParser
from django.db import Error

from oauth_connect.conf import LONGEST_HISTORY, conf
from oauth_connect.jobs.prune import Prunable, old
from oauth_connect.jobs.revoke import FAILED, OUTCOMES, due, revoke_due
from oauth_connect.management.command import Command as Base
from oauth_connect.management.command import (
    StopRequest,
    by_provider,
    database_problem,
    stop_request,
    table,
    whole,
    words,
)


def days(text: str) -> int:
    return whole(text, 0, LONGEST_HISTORY)


class Command(Base):
    help = (
        "Removes old history, states of flows that are over and connections that ended long ago, and has "
        "tokens revoked that still wait for it. Any number of these may run at once."
    )
    examples = """\
  manage.py oauth_prune                       from cron, once a day
  manage.py oauth_prune --dry-run             what would be done
  manage.py oauth_prune --history-days 30     whatever HISTORY_DAYS says
  manage.py oauth_prune --revoked-after 90    whatever REVOKED_DAYS says"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--history-days",
            type=days,
            metavar="N",
            help="remove history that is older than N days (default: HISTORY_DAYS)",
        )
        parser.add_argument(
            "--revoked-after",
            type=days,
            metavar="N",
            help="remove connections that were disconnected more than N days ago (default: REVOKED_DAYS)",
        )
        parser.add_argument("--dry-run", action="store_true", help="say how much there is and do nothing")

    def work(self, **options: Any) -> None:
        history, revoked = options["history_days"], options["revoked_after"]
        kinds = old(
            conf.history_days if history is None else history,
            conf.revoked_days if revoked is None else revoked,
        )
        if options["dry_run"]:
            self._foretell(kinds)
        else:
            self._prune(kinds)

    def _foretell(self, kinds: list[Prunable]) -> None:
        counts = {kind.what: kind.count() for kind in kinds}
        revocations = due().count()
        self._table("would be removed", counts)
        self.line(f"{revocations} revocations would be tried.")
        self.line("Nothing was removed.")
        self.document({"dry_run": True, "old": counts, "revocations": revocations})

    def _prune(self, kinds: list[Prunable]) -> None:
        started = time.monotonic()
        removed = {kind.what: 0 for kind in kinds}
        tried: Counter[tuple[str, str]] = Counter()
        problem = ""
        with stop_request() as stop:
            try:
                for kind in kinds:
                    self._remove(kind, removed, stop)
                self._revoke(tried, stop)
            except Error as error:
                problem = database_problem(error)
        took = time.monotonic() - started
        if not problem or any(removed.values()) or tried:  # before migrate there is nothing to tell
            self._show(removed, tried, took, stop)
        told = {"stopped": stop.asked, "seconds": round(took, 3), "error": problem}
        revocations = by_provider(tried, OUTCOMES)
        self.document({"dry_run": False, "removed": removed, "revocations": revocations, **told})
        self._conclude(tried, problem)

    def _show(
        self, removed: dict[str, int], tried: Counter[tuple[str, str]], took: float, stop: StopRequest
    ) -> None:
        self._table("removed", removed)
        for text in revocation_lines(tried):
            self.line(text)
        if stop.asked:
            self.line("Stopped as asked; the next run goes on.")
        self.line(f"{sum(removed.values())} rows in {took:.1f} s.")

    def _remove(self, kind: Prunable, removed: dict[str, int], stop: StopRequest) -> None:
        batches = kind.prune()
        while not stop.asked and (count := next(batches, None)) is not None:
            removed[kind.what] += count
            self.line(f"{words(kind.what)}: {removed[kind.what]}", verbosity=2)

    def _revoke(self, tried: Counter[tuple[str, str]], stop: StopRequest) -> None:
        tries = revoke_due()
        while not stop.asked and (one := next(tries, None)) is not None:
            tried[one.provider, one.outcome] += 1
            code = f" ({one.code})" if one.code else ""
            self.line(f"revocation at {one.provider}: {one.outcome}{code}", verbosity=2)

    def _conclude(self, tried: Counter[tuple[str, str]], problem: str) -> None:
        if problem:
            self.fail(problem)
        failed = sum(count for (_, outcome), count in tried.items() if outcome in FAILED)
        if failed:
            self.fail(f"{failed} of {tried.total()} tokens could not be revoked; they are tried again.")

    def _table(self, head: str, counts: dict[str, int]) -> None:
        for text in table(("what", head), [(words(what), count) for what, count in counts.items()]):
            self.line(text)


def revocation_lines(tried: Counter[tuple[str, str]]) -> Iterator[str]:
    if tried:
        rows = [(slug, outcome, count) for (slug, outcome), count in sorted(tried.items())]
        yield from table(("provider", "revocation", "tokens"), rows)
