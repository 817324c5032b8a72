from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.core.management.base import CommandParser
from django.db import Error, close_old_connections, router

from oauth_connect.conf import conf
from oauth_connect.errors import ConnectionHidden
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.outcomes import Result
from oauth_connect.jobs.refresh.run import WORKERS, refresh_due, round_robin
from oauth_connect.management.base import Command as Base
from oauth_connect.management.base import database_problem, integer
from oauth_connect.management.output import humanize, table
from oauth_connect.management.reports.refresh import Report, idle, idle_lines, skipped
from oauth_connect.management.stop import StopRequest, stop_request
from oauth_connect.models import Connection
from oauth_connect.stores.connection_state import read_state, restore_state

MAX_SECONDS = 366 * 24 * 3600
MAX_WORKERS = 512


def seconds(text: str) -> timedelta:
    return timedelta(seconds=integer(text, 0, MAX_SECONDS))


def pause(text: str) -> int:
    return integer(text, 1, MAX_SECONDS)


def workers(text: str) -> int:
    return integer(text, 1, MAX_WORKERS)


def positive(text: str) -> int:
    return integer(text, 1, None)


class Command(Base):
    help = (
        "Refreshes the tokens that are due. Any number of processes may run it in parallel, on any machine."
    )
    examples = """\
  manage.py oauth_refresh                        from cron, every few minutes
  manage.py oauth_refresh --dry-run              what would be refreshed
  manage.py oauth_refresh --provider NAME --provider OTHER --limit 500
  manage.py oauth_refresh --within 3600 --json   also what falls due within the hour
  manage.py oauth_refresh --user grace           only the connections of this user
  manage.py oauth_refresh --loop 60              a worker that pauses a minute after each pass"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--provider", action="append", default=[], metavar="SLUG", help="only this provider (repeatable)"
        )
        parser.add_argument("--user", metavar="USERNAME", help="only this user's connections")
        parser.add_argument(
            "--within",
            type=seconds,
            default=timedelta(0),
            metavar="SECONDS",
            help="also connections that fall due within so many seconds",
        )
        parser.add_argument("--limit", type=positive, metavar="N", help="at most N connections per pass")
        parser.add_argument(
            "--workers",
            type=workers,
            default=WORKERS,
            metavar="N",
            help=f"N token requests in parallel (default {WORKERS}), which share two database connections",
        )
        parser.add_argument(
            "--loop",
            type=pause,
            metavar="SECONDS",
            help="repeat until SIGTERM, with this pause between passes",
        )
        parser.add_argument("--dry-run", action="store_true", help="show what is due and send nothing")

    def work(self, **options: Any) -> None:
        self.options = options
        if options["dry_run"] and options["loop"]:
            self.usage_error("--dry-run and --loop cannot be combined.")
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
        # Raise for a setting without which nothing can be refreshed.
        _ = (conf.keys, conf.provider_slugs, conf.refresh_leeway, conf.http_timeout)
        if not conf.loads_providers:
            for slug in set(slugs).difference(conf.provider_slugs):
                conf.declared_provider(slug)  # the error lists the known names

    def _due(self, owner: AbstractBaseUser | None) -> Due:
        return Due(self.options["provider"], self.options["within"], owner=owner)

    # --- the work -------------------------------------------------------------------------------

    def _loop(self, owner: AbstractBaseUser | None) -> None:
        """Run pass after pass until a stop is requested. A database error ends a pass, not the loop."""
        alias = router.db_for_write(Connection)
        state = read_state(alias)
        with stop_request() as request:
            while not request.asked:
                try:
                    restore_state(alias, state)  # the pass before has closed the connection
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
                    self._print_result(result)
                    advance()
        except Error as error:
            report.problem = database_problem(error)
        except ConnectionHidden as error:
            report.problem = str(error)
        report.end(stopped=request.asked)
        if self.options["loop"] is None or report.tally.total:
            self._show(report)
        return report

    def _expected(self, due: Due) -> int:
        return min(sum(due.counts().values()), self.options["limit"] or sys.maxsize)

    def _print_result(self, result: Result) -> None:
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
        counts, unavailable = due.counts(), idle(due)
        queues = [itertools.repeat(slug, count) for slug, count in counts.items() if slug not in unavailable]
        would = Counter(itertools.islice(round_robin(queues), self.options["limit"]))
        for text in table(("provider", "would be refreshed"), sorted(would.items())) if would else ():
            self.line(text)
        for text in idle_lines(unavailable):
            self.line(text)
        self.line(f"{would.total()} connections would be refreshed. Nothing was sent.")
        self.document(
            {
                "dry_run": True,
                "total": would.total(),
                "due": dict(sorted(would.items())),
                "skipped": skipped(unavailable),
            }
        )
