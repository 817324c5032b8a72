from __future__ import annotations

import time
from typing import Any

from django.core.management.base import CommandParser
from django.db import Error

from oauth_connect.conf import MAX_DAYS, conf
from oauth_connect.jobs.prune import EventsOf, Prunable, prunable
from oauth_connect.jobs.revoke import FAILED, OUTCOMES, due, revoke_due
from oauth_connect.management.base import Command as Base
from oauth_connect.management.base import database_problem, integer
from oauth_connect.management.output import Tally, humanize, table
from oauth_connect.management.stop import StopRequest, stop_request
from oauth_connect.models import Owner


def days(text: str) -> int:
    return integer(text, 0, MAX_DAYS)


class Command(Base):
    help = (
        "Deletes old history, used states and connections that ended long ago, and retries pending "
        "revocations. Any number of processes may run it in parallel. With --user or --owner it erases one "
        "owner's history instead."
    )
    examples = """\
  manage.py oauth_prune                       from cron, once a day
  manage.py oauth_prune --dry-run             what would be done
  manage.py oauth_prune --history-days 30     instead of HISTORY_DAYS
  manage.py oauth_prune --revoked-after 90    instead of REVOKED_DAYS
  manage.py oauth_prune --user grace          erases the history of this user, and nothing else
  manage.py oauth_prune --owner org:7         the same for an owner's key"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--history-days",
            type=days,
            metavar="N",
            help="delete history that is older than N days (default: HISTORY_DAYS)",
        )
        parser.add_argument(
            "--revoked-after",
            type=days,
            metavar="N",
            help="delete connections that were disconnected more than N days ago (default: REVOKED_DAYS)",
        )
        person = parser.add_mutually_exclusive_group()
        person.add_argument("--user", metavar="USERNAME", help="erase the history of this user, nothing else")
        person.add_argument("--owner", metavar="KEY", help="erase the history of this owner, nothing else")
        parser.add_argument("--dry-run", action="store_true", help="show the counts and change nothing")

    def work(self, **options: Any) -> None:
        owner = self._owner(options["user"], options["owner"])
        history, revoked = options["history_days"], options["revoked_after"]
        if owner is not None:
            if (history, revoked) != (None, None):
                self.usage_error("--user and --owner erase history of any age: leave out the other options.")
            kinds: list[Prunable] = [EventsOf(owner)]
        else:
            kinds = prunable(
                conf.history_days if history is None else history,
                conf.revoked_days if revoked is None else revoked,
            )
        if options["dry_run"]:
            self._dry_run(kinds, revocations=owner is None)
        else:
            self._prune(kinds, revocations=owner is None)

    def _owner(self, username: str | None, key: str | None) -> Owner | None:
        if username is not None:
            return Owner.of(self.user(username))
        return None if key is None else Owner.of(key)

    def _dry_run(self, kinds: list[Prunable], *, revocations: bool) -> None:
        counts = {kind.table: kind.count() for kind in kinds}
        waiting = due().count() if revocations else 0
        self._table("would be deleted", counts)
        if revocations:
            self.line(f"{waiting} revocations would be tried.")
        self.line("Nothing was deleted.")
        self.document({"dry_run": True, "old": counts, "revocations": waiting})

    def _prune(self, kinds: list[Prunable], *, revocations: bool) -> None:
        started = time.monotonic()
        deleted = {kind.table: 0 for kind in kinds}
        tally = Tally(OUTCOMES, FAILED)
        problem = ""
        with stop_request() as stop:
            try:
                for kind in kinds:
                    self._delete(kind, deleted, stop)
                if revocations:
                    self._revoke(tally, stop)
            except Error as error:
                problem = database_problem(error)
        seconds = time.monotonic() - started
        if not problem or any(deleted.values()) or tally.total:  # before migrate there is nothing to report
            self._show(deleted, tally, seconds, stop)
        end = {"stopped": stop.asked, "seconds": round(seconds, 3), "error": problem}
        self.document({"dry_run": False, "removed": deleted, "revocations": tally.by_name(), **end})
        self._conclude(tally, problem)

    def _show(self, deleted: dict[str, int], tally: Tally, seconds: float, stop: StopRequest) -> None:
        self._table("deleted", deleted)
        if tally.total:
            for text in table(("provider", "revocation", "tokens"), tally.rows()):
                self.line(text)
        if stop.asked:
            self.line("Stopped on request. The next run continues.")
        self.line(f"{sum(deleted.values())} rows in {seconds:.1f} s.")

    def _delete(self, kind: Prunable, deleted: dict[str, int], stop: StopRequest) -> None:
        batches = kind.prune()
        while not stop.asked and (count := next(batches, None)) is not None:
            deleted[kind.table] += count
            self.line(f"{humanize(kind.table)}: {deleted[kind.table]}", verbosity=2)

    def _revoke(self, tally: Tally, stop: StopRequest) -> None:
        results = revoke_due()
        while not stop.asked and (result := next(results, None)) is not None:
            tally.add(result.provider, result.outcome)
            code = f" ({result.code})" if result.code else ""
            self.line(f"revocation at {result.provider}: {result.outcome}{code}", verbosity=2)

    def _conclude(self, tally: Tally, problem: str) -> None:
        if problem:
            self.failed(problem)
        if tally.failed:
            self.failed(
                f"{tally.failed} of {tally.total} tokens could not be revoked. They are retried later."
            )

    def _table(self, head: str, counts: dict[str, int]) -> None:
        for text in table(("what", head), [(humanize(name), count) for name, count in counts.items()]):
            self.line(text)
