"""Starting `tests.faults.worker`, following it to a point of a refresh, and killing it there."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings

from oauth_connect.models import Connection
from oauth_connect.stores.clock import DatabaseMilliseconds
from tests.support.processes import send_line, started
from tests.support.tokens import raw

Start = Callable[..., "Worker"]


class Worker:
    """A process with the settings of the test; each connection it is given gets a thread there."""

    def __init__(
        self,
        *used: Connection,
        task: str = "access_token",
        path: str = "",
        times: int = 1,
        inside: Iterable[str] = (),
        stops: Iterable[str] = (),
        slept: float = 0,
        clock: float = 0,
        options: dict[str, Any] | None = None,
        port: str = "",
        save_pauses: Iterable[float] | None = None,
        **changes: Any,
    ) -> None:
        orders = {
            "connections": [str(connection.pk) for connection in used],
            "settings": {**settings.OAUTH_CONNECT, **changes},
            "task": task,
            "path": path,
            "times": times,
            "inside": list(inside),
            "stops": list(stops),
            "slept": slept,
            "clock": clock,
            "options": options or {},
            "port": port,
            "save_pauses": None if save_pauses is None else list(save_pauses),
        }
        self.process = started("tests.faults.worker", orders)
        self.logged: list[str] = []

    def ready(self) -> Worker:
        assert self._line() == "ready"
        return self

    def go(self) -> Worker:
        """Begin, or go on where it has stopped."""
        send_line(self.process, "go")
        return self

    def until(self, point: str) -> Worker:
        assert self._line() == f"at {point}"
        return self

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def results(self) -> list[dict[str, Any]]:
        """Wait for the end, and return what each of its callers got."""
        output, _ = self.process.communicate(timeout=120)
        assert self.process.returncode == 0
        first, *found = [json.loads(line) for line in output.splitlines()]
        self.logged = list(first["logged"])
        return found

    def result(self) -> dict[str, Any]:
        (only,) = self.results()
        return only

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def at_once(workers: list[Worker]) -> list[Worker]:
    """Let them all begin at the same moment."""
    for worker in workers:
        worker.ready()
    for worker in workers:
        worker.go()
    return workers


def let_lease_run_out(connection: Connection) -> None:
    """As if its time were over by the database's clock."""
    assert raw(connection).update(lease_until=DatabaseMilliseconds() - 1)


def let_back_off_pass(connection: Connection) -> None:
    assert raw(connection).update(refresh_at=connection.created_at)
