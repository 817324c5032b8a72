from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.core.management.base import CommandParser
from django.db import Error, close_old_connections

from oauth_connect.conf import conf
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.outcomes import Result
from oauth_connect.jobs.refresh.run import WORKERS, refresh_due, round_robin
from oauth_connect.management.base import Command as Base
from oauth_connect.management.base import database_problem, integer
from oauth_connect.management.output import humanize, table
from oauth_connect.management.reports.refresh import Report, idle, idle_lines, skipped
from oauth_connect.management.stop import StopRequest, stop_request

LONGEST_WITHIN = 366 * 24 * 3600
MOST_WORKERS = 512


def seconds(text: str) -> timedelta:
    return timedelta(seconds=integer(text, 0, LONGEST_WITHIN))


def pause(text: str) -> int:
    return integer(text, 1, LONGEST_WITHIN)


def workers(text: str) -> int:
    return integer(text, 1, MOST_WORKERS)


def positive(text: str) -> int:
    return integer(text, 1, None)


class Command(Base):
    help = "Refreshes the tokens that are due. Any number of these may run at once, on any machine."
    examples = """\
  manage.py oauth_refresh                        from cron, every few minutes
  manage.py oauth_refresh --dry-run              what would be refreshed
  manage.py oauth_refresh --provider NAME --provider OTHER --limit 500
  manage.py oauth_refresh --within 3600 --json   what runs out within the hour
  manage.py oauth_refresh --user grace           what is due of one user's
  manage.py oauth_refresh --loop 60              a worker that looks again a minute after each pass"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--provider", action="append", default=[], metavar="SLUG", help="only this one (repeatable)"
        )
        parser.add_argument("--user", metavar="USERNAME", help="only this user's connections")
        parser.add_argument(
            "--within",
            type=seconds,
            default=timedelta(0),
            metavar="SECONDS",
            help="also what falls due within so many seconds",
        )
        parser.add_argument("--limit", type=positive, metavar="N", help="at most N connections (a pass)")
        parser.add_argument(
            "--workers",
            type=workers,
            default=WORKERS,
            metavar="N",
            help=f"so many token requests at once (default {WORKERS}); they share two database connections",
        )
        parser.add_argument(
            "--loop", type=pause, metavar="SECONDS", help="go on until SIGTERM, with so long a pause"
        )
        parser.add_argument("--dry-run", action="store_true", help="say what is due and send nothing")

    def work(self, **options: Any) -> None:
        self.options = options
        if options["dry_run"] and options["loop"]:
            self.usage_error("--dry-run and --loop make no sense together.")
        self._check(options["provider"])
        owner = self.user(options["user"]) if options["user"] is not None else None
        if options["dry_run"]:
            self._dry_run(self._due(owner))
        elif options["loop"]:
            self._loop(owner)
        else:
            with stop_request() as request:
                report = self._pass(self._due(owner), request)
            self._conclude(report)

    def _check(self, slugs: Iterable[str]) -> None:
        _ = (
            conf.keys,
            conf.provider_slugs,
            conf.refresh_leeway,
            conf.http_timeout,
        )  # nothing could be refreshed without
        if not conf.loads_providers:
            for slug in set(slugs).difference(conf.provider_slugs):
                conf.declared_provider(slug)  # says which there are

    def _due(self, owner: AbstractBaseUser | None) -> Due:
        return Due(self.options["provider"], self.options["within"], owner=owner)

    # --- the work -------------------------------------------------------------------------------

    def _loop(self, owner: AbstractBaseUser | None) -> None:
        """Pass after pass, until asked to stop; a database that is away for a while does not end it."""
        with stop_request() as request:
            while not request.asked:
                try:
                    report = self._pass(self._due(owner), request)
                    if report.problem:
                        self.stderr.write(report.problem)
                except Error as error:
                    self.stderr.write(database_problem(error))
                close_old_connections()
                request.wait(self.options["loop"])

    def _pass(self, due: Due, request: StopRequest) -> Report:
        report = Report(idle(due))
        run = refresh_due(
            due,
            workers=self.options["workers"],
            at_most=self.options["limit"],
        )
        request.then(run.stop)
        try:
            with self.progress("connections", lambda: self._expected(due)) as advance:
                for result in run:
                    report.count(result)
                    self._tell(result)
                    advance()
        except Error as error:
            report.problem = database_problem(error)
        report.end(stopped=request.asked)
        if self.options["loop"] is None or report.tally.total:
            self._show(report)
        return report

    def _expected(self, due: Due) -> int:
        return min(sum(due.counts().values()), self.options["limit"] or sys.maxsize)

    def _tell(self, result: Result) -> None:
        code = f" ({result.code})" if result.code else ""
        self.line(f"{result.provider} {result.connection}: {humanize(result.outcome)}{code}", verbosity=2)

    def _show(self, report: Report) -> None:
        for text in report.lines():
            self.line(text)
        self.document(report.document(), on_one_line=self.options["loop"] is not None)
        self.stdout.flush()

    def _conclude(self, report: Report) -> None:
        if report.problem:
            self.failed(report.problem)
        if report.tally.failed:
            self.failed(f"{report.tally.failed} of {report.tally.total} connections could not be refreshed.")

    # --- --dry-run ------------------------------------------------------------------------------

    def _dry_run(self, due: Due) -> None:
        counts, left_alone = due.counts(), idle(due)
        queues = [itertools.repeat(slug, count) for slug, count in counts.items() if slug not in left_alone]
        would = Counter(itertools.islice(round_robin(queues), self.options["limit"]))
        for text in table(("provider", "would be refreshed"), sorted(would.items())) if would else ():
            self.line(text)
        for text in idle_lines(left_alone):
            self.line(text)
        self.line(f"{would.total()} connections would be refreshed; nothing was sent.")
        self.document(
            {
                "dry_run": True,
                "total": would.total(),
                "due": dict(sorted(would.items())),
                "skipped": skipped(left_alone),
            }
        )
