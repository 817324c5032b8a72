from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.core.management.base import CommandParser

from oauth_connect import crypto
from oauth_connect.conf import conf
from oauth_connect.jobs import rotate_keys as flow
from oauth_connect.jobs.rotate_keys import BATCH_SIZE, SEALED, Batch
from oauth_connect.management.base import Command as Base
from oauth_connect.management.base import integer
from oauth_connect.management.output import humanize
from oauth_connect.management.reports.rotate_keys import Report
from oauth_connect.management.stop import stop_request

MAX_BATCH = 10_000
ADVICE = """\
The new key is on standard output. Store it with your other secrets, and put it into OAUTH_CONNECT["KEYS"]
  1. last, on every machine: each machine can then open what the key seals;
  2. first, on every machine: the key then seals all new values.
Then run oauth_rotate_keys. Remove the old key when the command says that you can."""


def batch_size(text: str) -> int:
    return integer(text, 1, MAX_BATCH)


class Command(Base):
    help = (
        "Re-encrypts all stored tokens with the first key of the ring, so that older keys can be removed. "
        "The site keeps running. The next run continues a run that was stopped."
    )
    examples = """\
  manage.py oauth_rotate_keys --generate     a new key, and what to do with it
  manage.py oauth_rotate_keys --dry-run      how many tokens each key opens
  manage.py oauth_rotate_keys                when the new key is first on every machine"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--batch-size",
            type=batch_size,
            default=BATCH_SIZE,
            metavar="N",
            help=f"the number of rows in a transaction (default {BATCH_SIZE})",
        )
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument("--dry-run", action="store_true", help="count by key and change nothing")
        mode.add_argument("--generate", action="store_true", help="print a new key and do nothing else")

    def work(self, **options: Any) -> None:
        if options["generate"]:
            self._generate()
            return
        run = flow.count_by_key if options["dry_run"] else flow.rotate
        report = Report(len(conf.keys), dry_run=options["dry_run"])
        with stop_request() as stop, self.progress("rows", self._total) as advance:
            report.count(self._batches(run, options["batch_size"]), lambda: stop.asked, advance)
            report.stopped = stop.asked
        self._show(report)

    def _generate(self) -> None:
        """Print the key alone to standard output, so that it can be piped to a secret store."""
        key = crypto.new_key()
        if self.as_json:
            self.document({"key": key})
        else:
            self.stdout.write(key)
        self.stderr.write(ADVICE, self.style.NOTICE)

    def _batches(self, run: Callable[[str, int], Iterator[Batch]], size: int) -> Iterator[Batch]:
        for table in SEALED:
            for batch in run(table, size):
                for row in batch.unopened:
                    self.line(
                        f"{humanize(row.table)} {row.pk} ({row.provider}): no key opens it", verbosity=0
                    )
                yield batch

    def _total(self) -> int:
        return sum(flow.count(table) for table in SEALED)

    def _show(self, report: Report) -> None:
        for text in report.lines():
            self.line(text)
        self.document(report.document())
        if problem := report.problem():
            self.failed(problem)
