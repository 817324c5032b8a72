"""Processes that call an API through one connection at the same time.

``python -m tests.support.workers`` reads its orders (JSON) from the first line of stdin and prints "ready".
It starts when it reads a second line. Each thread loads the connection itself, as a request does.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from tests.support.processes import Forked, send_line, started


def call_together(*, processes: int, threads: int, **orders: Any) -> list[dict[str, Any]]:
    """Run the processes, and return a dict for each thread with its response or its error."""
    workers = [started("tests.support.workers", {**orders, "threads": threads}) for _ in range(processes)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        send_line(worker, "go")
    return [result for worker in workers for result in _results(worker)]


def _results(worker: Forked) -> list[dict[str, Any]]:
    output, _ = worker.communicate(timeout=120)
    assert worker.returncode == 0
    return [json.loads(line) for line in output.splitlines()]


def _work() -> None:
    orders = json.loads(sys.stdin.readline())
    _set_up(orders)
    barrier = threading.Barrier(orders["threads"] + 1)
    results: list[dict[str, Any]] = []
    callers = [
        threading.Thread(target=_call, args=(orders, barrier, results)) for _ in range(orders["threads"])
    ]
    for caller in callers:
        caller.start()
    print("ready", flush=True)
    sys.stdin.readline()
    barrier.wait()
    for caller in callers:
        caller.join()
    for result in results:
        print(json.dumps(result))


def _set_up(orders: dict[str, Any]) -> None:
    import django

    django.setup()
    from django.conf import settings

    settings.OAUTH_CONNECT = {**settings.OAUTH_CONNECT, **orders["settings"]}


def _call(orders: dict[str, Any], barrier: threading.Barrier, results: list[dict[str, Any]]) -> None:
    from django.db import connections

    try:
        connection = _connection(orders, barrier)
        response = connection.session().get(orders["path"])
        result: dict[str, Any] = {"status": response.status_code, "version": connection.version}
    except Exception as error:
        result = {"error": type(error).__name__, "message": str(error)}
    finally:
        connections.close_all()
    results.append(result)


def _connection(orders: dict[str, Any], barrier: threading.Barrier) -> Any:
    """Return the connection when all threads are ready. A missing machine connection is created then."""
    from oauth_connect.flows import machine_connection
    from oauth_connect.models import Connection

    if "machine" in orders:
        barrier.wait()
        return machine_connection(**orders["machine"])
    connection = Connection.objects.get(pk=orders["connection"])
    barrier.wait()
    return connection


if __name__ == "__main__":
    _work()
