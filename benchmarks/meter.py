"""What a piece of work costs: time, processor time, statements, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created

STATUS = Path("/proc/self/status")


@dataclass
class Cost:
    """Seconds, processor seconds of this process, statements, MiB.

    `statements` counts what passes Django's cursor wrapper, an executemany once; `statements_by_row`
    counts each row of an executemany. BEGIN passes it on SQLite only, COMMIT nowhere.
    """

    seconds: float = 0.0
    processor_seconds: float = 0.0
    statements: int = 0
    statements_by_row: int = 0
    resident_before: float = 0.0
    resident_peak: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@contextmanager
def metered() -> Iterator[Cost]:
    """Measure a block, all threads of it. Connections should be open before; new ones are counted too."""
    cost = Cost()
    with counting(cost):
        cost.resident_before = peak_resident()
        started, cpu = time.perf_counter(), time.process_time()
        yield cost
        cost.seconds = time.perf_counter() - started
        cost.processor_seconds = time.process_time() - cpu
        cost.resident_peak = peak_resident()


@contextmanager
def counting(cost: Cost) -> Iterator[None]:
    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        cost.statements += 1
        cost.statements_by_row += len(params) if many else 1
        return execute(sql, params, many, context)

    def attach(connection: Any, **_: Any) -> None:
        if count not in connection.execute_wrappers:
            connection.execute_wrappers.append(count)

    for opened in connections.all():
        attach(opened)
    connection_created.connect(attach)
    try:
        yield
    finally:
        connection_created.disconnect(attach)
        for opened in connections.all():
            opened.execute_wrappers.remove(count)


def resident() -> float:
    """The memory this process has now, in MiB; where that cannot be read, the most it has had."""
    return from_status("VmRSS") if STATUS.exists() else peak_resident()


def from_status(name: str) -> float:
    found = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(found.split()[1]) / 1024


def peak_resident() -> float:
    """The most memory this process has had, in MiB."""
    if STATUS.exists():  # the other way also remembers what the parent had before exec
        return from_status("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
