from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.core.management.base import CommandParser

from oauth_connect import crypto
from oauth_connect.conf import conf
from oauth_connect.jobs import rotate_keys as flow
from oauth_connect.jobs.rotate_keys import BATCH_SIZE, SEALED, Batch
from oauth_connect.management.command import Command as Base
from oauth_connect.management.command import stop_request, whole, words
from oauth_connect.management.rotation import Tally

LARGEST_BATCH = 10_000
ADVICE = """\
A new key, on standard output. Keep it where your other secrets are, and put it into OAUTH_CONNECT["KEYS"]
  1. last, on every machine: each can open what it will seal;
  2. first, on every machine: it seals from now on.
Then run oauth_rotate_keys, and take the old key out when it says that you may."""


def batch_size(text: str) -> int:
    return whole(text, 1, LARGEST_BATCH)


class Command(Base):
    help = (
        "Seals all stored tokens anew under the first key of the ring, so that older keys can go. The site "
        "goes on meanwhile; what was stopped goes on with the next run."
    )
    examples = """\
  manage.py oauth_rotate_keys --generate     a new key, and what to do with it
  manage.py oauth_rotate_keys --dry-run      how many tokens each key opens
  manage.py oauth_rotate_keys                once the new key is first on every machine"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--batch-size",
            type=batch_size,
            default=BATCH_SIZE,
            metavar="N",
            help=f"so many rows in a transaction (default {BATCH_SIZE})",
        )
        instead = parser.add_mutually_exclusive_group()
        instead.add_argument("--dry-run", action="store_true", help="count by key and change nothing")
        instead.add_argument("--generate", action="store_true", help="print a new key; nothing else is done")

    def work(self, **options: Any) -> None:
        if options["generate"]:
            self._generate()
            return
        run = flow.look if options["dry_run"] else flow.rotate
        tally = Tally(len(conf.keys), dry_run=options["dry_run"])
        with stop_request() as stop, self.progress("rows", self._total) as advance:
            tally.count(self._batches(run, options["batch_size"]), lambda: stop.asked, advance)
            tally.stopped = stop.asked
        self._show(tally)

    def _generate(self) -> None:
        """The key alone on standard output: it can be piped to where secrets are kept."""
        key = crypto.new_key()
        if self.as_json:
            self.document({"key": key})
        else:
            self.stdout.write(key)
        self.stderr.write(ADVICE, self.style.NOTICE)

    def _batches(self, run: Callable[[str, int], Iterator[Batch]], size: int) -> Iterator[Batch]:
        for what in SEALED:
            for batch in run(what, size):
                for row in batch.unopened:
                    self.line(f"{words(row.what)} {row.pk} ({row.provider}): no key opens it", verbosity=0)
                yield batch

    def _total(self) -> int:
        return sum(flow.count(what) for what in SEALED)

    def _show(self, tally: Tally) -> None:
        for text in tally.lines():
            self.line(text)
        self.document(tally.document())
        if problem := tally.problem():
            self.fail(problem)
