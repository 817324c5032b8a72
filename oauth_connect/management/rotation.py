"""What a run of oauth_rotate_keys has seen and done, as lines and as a document; keys by their place only."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from django.db import Error

from oauth_connect.jobs.rotate_keys import SEALED, Batch, Unopened
from oauth_connect.management.command import database_problem, table, words


class Tally:
    """What a run has seen and done, table by table."""

    def __init__(self, keys: int, *, dry_run: bool) -> None:
        self.keys = keys
        self.dry_run = dry_run
        self.opened_by = {what: Counter[int]() for what in SEALED}
        self.resealed = dict.fromkeys(SEALED, 0)
        self.left = dict.fromkeys(SEALED, 0)
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
        self.opened_by[batch.what] += batch.opened_by
        self.resealed[batch.what] += batch.resealed
        self.left[batch.what] += batch.left
        self.unopened += batch.unopened

    # --- what is said ---------------------------------------------------------------------------

    def lines(self) -> Iterator[str]:
        if self.error and not self._has_seen_any():  # before migrate: zeros would say that there is nothing
            return
        head = ["what", *(f"key {place + 1}" for place in range(self.keys)), "no key"]
        head += [] if self.dry_run else ["sealed anew"]
        yield from table(head, [self._cells(what) for what in SEALED])
        if self.stopped:
            yield "Stopped as asked; run it again, it goes on."
        if self.dry_run:
            yield "Key 1 seals; nothing was changed."
            return
        yield f"{sum(self.resealed.values())} rows in {self.seconds:.1f} s."
        if not self.problem() and not self.stopped:
            yield self._conclusion()

    def _has_seen_any(self) -> bool:
        opened = any(places.total() for places in self.opened_by.values())
        return opened or bool(self.unopened) or any(self.left.values())

    def _cells(self, what: str) -> list[object]:
        by_key = [self.opened_by[what][place] for place in range(self.keys)]
        unopened = sum(1 for row in self.unopened if row.what == what)
        return [words(what), *by_key, unopened, *([] if self.dry_run else [self.resealed[what]])]

    def _conclusion(self) -> str:
        if self.keys == 1:
            return "Key 1, the only one, opens everything."
        return (
            "Key 1 alone opens everything. Once it has been first on every machine for ten minutes and this "
            "command finds nothing more to do, the other keys can go."
        )

    def document(self) -> dict[str, Any]:
        done = {} if self.dry_run else {"resealed": self.resealed, "left": self.left}
        return {
            "dry_run": self.dry_run,
            "opened_by_key": {
                what: [self.opened_by[what][place] for place in range(self.keys)] for what in SEALED
            },
            "unopened": [asdict(row) for row in self.unopened],
            **done,
            "stopped": self.stopped,
            "seconds": round(self.seconds, 3),
            "error": self.error,
        }

    def problem(self) -> str:
        """Say what is still to do; empty where nothing is."""
        if self.error:
            return self.error
        if self.unopened:
            return (
                f"No key opens {len(self.unopened)} rows; they were left as they are. Put the key that "
                'sealed them back into OAUTH_CONNECT["KEYS"], and run this again.'
            )
        if sum(self.left.values()):
            return f"{sum(self.left.values())} rows were held by others each time; run this again."
        return ""
