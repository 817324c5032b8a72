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
from oauth_connect.jobs.import_tokens import IMPORTED, Source, TakeOver
from oauth_connect.management.command import Command as Base
from oauth_connect.management.command import StopRequest, database_problem, stop_request, table, words
from oauth_connect.management.progress import progress
from oauth_connect.management.taken import Tally

# By name: bridges stand apart, and each needs a package that not every site has.
SOURCES = {
    "allauth": "oauth_connect.contrib.importers.allauth",
    "social_auth": "oauth_connect.contrib.importers.social_auth",
}


def renamed(text: str) -> tuple[str, str]:
    there, _, here = text.partition("=")
    if not there or not here:
        raise ArgumentTypeError(f"{text!r} is not NAME=SLUG")
    return there, here


class Command(Base):
    help = (
        "Takes over the tokens that django-allauth or social-auth-app-django stored. Their rows stay as they "
        "are; what is connected here already is left alone. Run it again after an interruption."
    )
    examples = """\
  manage.py oauth_import allauth --dry-run              what would be imported, and what not
  manage.py oauth_import allauth
  manage.py oauth_import social_auth --provider google-oauth2
  manage.py oauth_import social_auth --map my-sso=acme  their name of a provider, and yours"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("source", choices=sorted(SOURCES), help="the package that stored the tokens")
        parser.add_argument(
            "--provider",
            action="append",
            default=[],
            metavar="NAME",
            help="only this one, by that package's name (repeatable)",
        )
        parser.add_argument(
            "--map",
            action="append",
            default=[],
            type=renamed,
            metavar="NAME=SLUG",
            help="that package's name of a provider, and its name here (repeatable)",
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be done and write nothing")

    def work(self, **options: Any) -> None:
        self.dry_run = options["dry_run"]
        self._check(options["map"])
        source: Source = import_module(SOURCES[options["source"]]).Tokens()
        names = {**source.names, **dict(options["map"])}
        take_over = TakeOver(source.package, names, dry_run=self.dry_run)
        started = time.monotonic()
        tally, problem = Tally(), ""
        with stop_request() as stop:
            try:
                self._take(source, take_over, options["provider"], tally, stop)
            except Error as error:
                problem = database_problem(error)
        told = {"stopped": stop.asked, "seconds": round(time.monotonic() - started, 3), "error": problem}
        self._show(source, tally, told)
        self._conclude(tally, problem)

    def _check(self, renames: list[tuple[str, str]]) -> None:
        """Settle what would fail each row."""
        try:
            crypto.prove()
        except KeyUnavailable as error:
            self.refuse(str(error))
        if not conf.loads_providers:
            for _, slug in renames:
                conf.declared_provider(slug)  # says which there are

    def _take(
        self, source: Source, take_over: TakeOver, providers: list[str], tally: Tally, stop: StopRequest
    ) -> None:
        quiet = self.as_json or self.verbosity != 1
        with progress("rows", lambda: source.count(providers), quiet=quiet) as advance:
            batches = source.read(providers)
            while not stop.asked and (batch := next(batches, None)) is not None:
                for result in take_over.batch(batch):
                    tally.count(result)
                    self.line(f"{result.provider} {result.pk}: {words(result.outcome)}", verbosity=2)
                advance(len(batch))

    def _show(self, source: Source, tally: Tally, told: dict[str, Any]) -> None:
        head = (f"name in {source.package}", "provider", "would be" if self.dry_run else "outcome", "rows")
        for text in table(head, tally.rows()) if tally.total else ():
            self.line(text)
        for text in tally.reasons():
            self.line(text)
        if told["stopped"]:
            self.line("Stopped as asked; run it again for the rest.")
        verb = "would be imported; nothing was written" if self.dry_run else "imported"
        self.line(f"{tally.by_outcome()[IMPORTED]} of {tally.total} rows {verb}.")
        self.document({"source": source.package, "dry_run": self.dry_run, **tally.document(), **told})

    def _conclude(self, tally: Tally, problem: str) -> None:
        if problem:
            self.fail(problem)
        if tally.failed:
            self.fail(f"{tally.failed} of {tally.total} rows could not be imported; see above.")
