"""When an answer had been read and when its token was committed, noted around the code that does it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any
from unittest import mock

from benchmarks import rows
from benchmarks.reference import recipes
from oauth_connect.protocol.net.transport import ServerSession
from oauth_connect.stores.batch import Saves
from oauth_connect.stores.bulk import BulkStore

Noted = dict[int, float]


@dataclass
class Moments:
    """Seconds of the monotonic clock, for each grant."""

    read: Noted = field(default_factory=dict)
    committed: Noted = field(default_factory=dict)

    def as_dict(self) -> dict[str, Noted]:
        return {"read": self.read, "committed": self.committed}


@contextmanager
def of_command(wanted: bool = True) -> Iterator[Moments]:
    """Note what `oauth_refresh` does in this process.

    An answer has been read when the call that exchanges it returns; the worker that made it then hands it on.
    """
    moments = Moments()
    own = threading.local()

    def exchange(real: Callable[..., Any], *args: Any, **options: Any) -> Any:
        answer = real(*args, **options)
        own.read = time.monotonic()
        return answer

    def hand_on(real: Callable[..., Any], store: BulkStore, *args: Any) -> Any:
        moments.read[rows.family_of(store.row.pk)] = own.read
        return real(store, *args)

    def alone(real: Callable[..., Any], store: BulkStore, *args: Any) -> Any:
        saved = real(store, *args)
        if saved is not None:
            moments.committed.setdefault(rows.family_of(store.row.pk), time.monotonic())
        return saved

    def together(real: Callable[..., Any], statement: Saves, saves: Any) -> Any:
        complete = real(statement, saves)
        if complete:
            now = time.monotonic()
            moments.committed.update((rows.family_of(one.pk), now) for one in saves)
        return complete

    with ExitStack() as stack:
        if wanted:
            stack.enter_context(around(ServerSession, "exchange", exchange))
            stack.enter_context(around(BulkStore, "save_soon", hand_on))
            stack.enter_context(around(BulkStore, "save", alone))
            stack.enter_context(around(Saves, "run", together))
        yield moments


@contextmanager
def of_reference() -> Iterator[Moments]:
    """The same for the recipe; the caller notes what it hears of commits."""
    moments = Moments()

    def fetch(real: Callable[..., Any], row: Any) -> Any:
        answer = real(row)
        moments.read[row.pk - 1] = time.monotonic()
        return answer

    with around(recipes, "fetch", fetch):
        yield moments


def around(where: Any, name: str, wrapper: Callable[..., Any]) -> Any:
    real = getattr(where, name)

    def call(*args: Any, **options: Any) -> Any:
        return wrapper(real, *args, **options)

    return mock.patch.object(where, name, call)


def waits(name: str, since: Noted, until: Noted) -> dict[str, float]:
    """Milliseconds from one moment to another: median, 99 of a hundred, longest."""
    if len(until) < 2:
        return {}
    found = sorted((until[family] - since[family]) * 1000 for family in until)
    figures = {"median": median(found), "p99": quantiles(found, n=100)[-1], "max": found[-1]}
    return {f"{name}_{which}": value for which, value in figures.items()}
