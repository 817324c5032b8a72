from __future__ import annotations

import time
from argparse import ArgumentTypeError
from importlib import import_module
from typing import Any

from django.core.management.base import CommandParser
from django.db import Error

from oauth_connect import crypto
from oauth_connect.conf import conf
from oauth_connect.errors import KeyUnavailable
from oauth_connect.jobs.import_tokens import IMPORTED, Source, TokenImport
from oauth_connect.management.base import Command as Base
from oauth_connect.management.base import (
    database_problem,
)
from oauth_connect.management.output import humanize, progress, table
from oauth_connect.management.reports.import_tokens import Report
from oauth_connect.management.stop import StopRequest, stop_request

# Imported by name, because each needs a package that not every site has.
SOURCES = {
    "allauth": "oauth_connect.contrib.importers.allauth",
    "social_auth": "oauth_connect.contrib.importers.social_auth",
}


def renamed(text: str) -> tuple[str, str]:
    name, _, slug = text.partition("=")
    if not name or not slug:
        raise ArgumentTypeError(f"{text!r} is not NAME=SLUG")
    return name, slug


class Command(Base):
    help = (
        "Imports the tokens that django-allauth or social-auth-app-django stored. Their rows are not "
        "changed. Accounts that are connected already are skipped. After an interruption, run it again."
    )
    examples = """\
  manage.py oauth_import allauth --dry-run              what would be imported, and what not
  manage.py oauth_import allauth
  manage.py oauth_import social_auth --provider google-oauth2
  manage.py oauth_import social_auth --map my-sso=acme  that package's name of a provider, and yours"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("source", choices=sorted(SOURCES), help="the package that stored the tokens")
        parser.add_argument(
            "--provider",
            action="append",
            default=[],
            metavar="NAME",
            help="only this provider, by that package's name (repeatable)",
        )
        parser.add_argument(
            "--map",
            action="append",
            default=[],
            type=renamed,
            metavar="NAME=SLUG",
            help="that package's name of a provider, and its name in the settings (repeatable)",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="show what would be done and write nothing"
        )

    def work(self, **options: Any) -> None:
        self.dry_run = options["dry_run"]
        self._check(options["map"])
        source: Source = import_module(SOURCES[options["source"]]).Tokens()
        names = {**source.names, **dict(options["map"])}
        importer = TokenImport(source.package, names, dry_run=self.dry_run)
        started = time.monotonic()
        report, problem = Report(), ""
        with stop_request() as stop:
            try:
                self._import(source, importer, options["provider"], report, stop)
            except Error as error:
                problem = database_problem(error)
        end = {"stopped": stop.asked, "seconds": round(time.monotonic() - started, 3), "error": problem}
        self._show(source, report, end)
        self._conclude(report, problem)

    def _check(self, renames: list[tuple[str, str]]) -> None:
        """End the command if a problem would fail every row."""
        try:
            crypto.check_sealing()
        except KeyUnavailable as error:
            self.usage_error(str(error))
        if not conf.loads_providers:
            for _, slug in renames:
                conf.declared_provider(slug)  # the error lists the known names

    def _import(
        self, source: Source, importer: TokenImport, providers: list[str], report: Report, stop: StopRequest
    ) -> None:
        quiet = self.as_json or self.verbosity != 1
        with progress("rows", lambda: source.count(providers), quiet=quiet) as advance:
            batches = source.read(providers)
            while not stop.asked and (batch := next(batches, None)) is not None:
                for result in importer.batch(batch):
                    report.count(result)
                    self.line(f"{result.provider} {result.pk}: {humanize(result.outcome)}", verbosity=2)
                advance(len(batch))

    def _show(self, source: Source, report: Report, end: dict[str, Any]) -> None:
        head = (f"name in {source.package}", "provider", "would be" if self.dry_run else "outcome", "rows")
        for text in table(head, report.tally.rows()) if report.tally.total else ():
            self.line(text)
        for text in report.reasons():
            self.line(text)
        if end["stopped"]:
            self.line("Stopped on request. Run it again for the rest.")
        verb = "would be imported. Nothing was written" if self.dry_run else "imported"
        self.line(f"{report.tally.by_outcome()[IMPORTED]} of {report.tally.total} rows {verb}.")
        self.document({"source": source.package, "dry_run": self.dry_run, **report.document(), **end})

    def _conclude(self, report: Report, problem: str) -> None:
        if problem:
            self.failed(problem)
        if report.tally.failed:
            self.failed(
                f"{report.tally.failed} of {report.tally.total} rows could not be imported. See above."
            )
