"""The report of oauth_rotate_keys, as lines and as a document. A key is named by its position in the ring."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from django.db import Error

from oauth_connect.jobs.rotate_keys import SEALED, Batch, Unopened
from oauth_connect.management.base import database_problem
from oauth_connect.management.output import Tally, humanize, table

NO_KEY, RESEALED, LEFT = "no key", "re-encrypted", "left"


def key_name(index: int) -> str:
    return f"key {index + 1}"


class Report:
    """Counts the rows of a run by table, key and result."""

    def __init__(self, keys: int, *, dry_run: bool) -> None:
        self.keys = [key_name(index) for index in range(keys)]
        self.dry_run = dry_run
        self.tally = Tally([*self.keys, NO_KEY, RESEALED, LEFT])
        self.unopened: list[Unopened] = []
        self.stopped = False
        self.error = ""
        self.seconds = 0.0

    def count(
        self, batches: Iterator[Batch], stopped: Callable[[], bool], advance: Callable[..., object]
    ) -> None:
        started = time.monotonic()
        try:
            while not stopped() and (batch := next(batches, None)) is not None:
                self._add(batch)
                advance(batch.opened_by.total() + len(batch.unopened))
        except Error as error:
            self.error = database_problem(error)
        self.seconds = time.monotonic() - started

    def _add(self, batch: Batch) -> None:
        for index, number in batch.opened_by.items():
            self.tally.add(batch.table, key_name(index), number=number)
        self.tally.add(batch.table, NO_KEY, number=len(batch.unopened))
        self.tally.add(batch.table, RESEALED, number=batch.resealed)
        self.tally.add(batch.table, LEFT, number=batch.left)
        self.unopened += batch.unopened

    def _sum(self, outcome: str) -> int:
        return self.tally.by_outcome()[outcome]

    # --- output -----------------------------------------------------------------------------------

    def lines(self) -> Iterator[str]:
        if self.error and not self.tally.total:  # before migrate, zeros would look like empty tables
            return
        columns = [*self.keys, NO_KEY, *([] if self.dry_run else [RESEALED])]
        rows = [[humanize(name), *(self.tally.of(name, column) for column in columns)] for name in SEALED]
        yield from table(["what", *columns], rows)
        if self.stopped:
            yield "Stopped on request. Run it again to continue."
        if self.dry_run:
            yield "Key 1 encrypts. Nothing was changed."
            return
        yield f"{self._sum(RESEALED)} rows in {self.seconds:.1f} s."
        if not self.problem() and not self.stopped:
            yield self._conclusion()

    def _conclusion(self) -> str:
        if len(self.keys) == 1:
            return "Key 1, the only one, opens everything."
        return (
            "Key 1 alone opens everything. Once it has been first on every machine for ten minutes and this "
            "command finds nothing more to do, you can remove the other keys."
        )

    def document(self) -> dict[str, Any]:
        results = {
            "resealed": {name: self.tally.of(name, RESEALED) for name in SEALED},
            "left": {name: self.tally.of(name, LEFT) for name in SEALED},
        }
        return {
            "dry_run": self.dry_run,
            "opened_by_key": {name: [self.tally.of(name, key) for key in self.keys] for name in SEALED},
            "unopened": [
                {"what": row.table, "pk": row.pk, "provider": row.provider} for row in self.unopened
            ],
            **({} if self.dry_run else results),
            "stopped": self.stopped,
            "seconds": round(self.seconds, 3),
            "error": self.error,
        }

    def problem(self) -> str:
        """Return a message about what is still to do. Empty if nothing is."""
        if self.error:
            return self.error
        if self.unopened:
            return (
                f"No key opens {len(self.unopened)} rows, which were not changed. Put the key that sealed "
                'them back into OAUTH_CONNECT["KEYS"], and run this again.'
            )
        if left := self._sum(LEFT):
            return f"Other transactions locked {left} rows at each attempt. Run this again."
        return ""
