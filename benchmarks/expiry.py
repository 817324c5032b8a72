"""One token has expired, and 32 callers come at once, of 8 processes with 4 threads.

Until when has the last one its answer? Beside the shortest recipe with a lease.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import requests
from django.conf import settings
from django.db import connection

from benchmarks import child, rows
from benchmarks.authority import Authority
from benchmarks.reference import recipes
from oauth_connect.models import Connection

PROCESSES = 8
THREADS = 4
LATENCY = 100  # milliseconds
A_ROUND = 5  # one expiry takes a fraction of a second
HEADSTART = 0.2  # seconds in which all threads fall asleep before they are woken together


class Failed(Exception):
    """A measurement counts for nothing: a call failed, or there was more than one token request."""


def measure(authority: Authority, *, rounds: int, **_: Any) -> Any:
    """Ours and the reference in turn."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in RECIPES}
    with callers(authority) as processes:
        for number in range(-1, rounds * A_ROUND):
            for name in sorted(RECIPES, reverse=bool(number % 2)):
                took = one_expiry(authority, processes, name)
                if number >= 0:  # the first time pays for imports and first connections
                    found[name].append(took)
    return found


def one_expiry(authority: Authority, processes: list[subprocess.Popen[str]], recipe: str) -> dict[str, float]:
    """Milliseconds from the first start to the last end, and of the processor for all callers."""
    rows.connections(1)
    rows.reference_tokens(1)
    authority.prepare(grants=1, latency=LATENCY)
    for process in processes:
        say(process, recipe)
    for process in processes:
        heard(process)
    start = time.monotonic() + HEADSTART
    for process in processes:
        say(process, start)
    answers = [heard(process) for process in processes]
    calls = [call for answer in answers for call in answer["calls"]]
    report = authority.report()
    if any(call["status"] != 200 for call in calls) or report["token_requests"] != 1:
        raise Failed(f"{recipe}: {report}, {calls}")
    return {
        "took": (max(call["ended"] for call in calls) - min(call["begun"] for call in calls)) * 1000,
        "processor": sum(answer["processor_seconds"] for answer in answers) * 1000,
    }


@contextmanager
def callers(authority: Authority) -> Iterator[list[subprocess.Popen[str]]]:
    command = child.command(f"{__name__}.serve", {"threads": THREADS})
    with ExitStack() as stack:
        processes = []
        for _ in range(PROCESSES):
            process = subprocess.Popen(
                command,
                env=child.environment(authority),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            processes.append(stack.enter_context(process))
        yield processes
        for process in processes:
            process.communicate()  # its input ends, and with it the process


def say(process: subprocess.Popen[str], what: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(what) + "\n")
    process.stdin.flush()


def heard(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


# --- in a process of callers ----------------------------------------------------------------------


def by_us() -> int:
    row = Connection.objects.get(pk=rows.key_of(0))
    return row.session().get("/api").status_code


def by_lease() -> int:
    token = recipes.valid_token(1)
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(f"{settings.AUTHORITY}/api", headers=headers).status_code  # noqa: S113


RECIPES: dict[str, Callable[[], int]] = {"ours": by_us, "lease": by_lease}


def serve(threads: int) -> None:
    """Read the name of a recipe, get ready, say so, read when to begin, say how it went; and the next."""
    for line in sys.stdin:
        answers = together(RECIPES[json.loads(line)], threads)
        print(json.dumps(answers), flush=True)


def together(work: Callable[[], int], threads: int) -> dict[str, Any]:
    ready, told = threading.Barrier(threads + 1), threading.Barrier(threads + 1)
    start = 0.0
    calls: list[dict[str, Any]] = []

    def caller() -> None:
        connection.ensure_connection()
        ready.wait()
        told.wait()
        time.sleep(max(0.0, start - time.monotonic()))
        calls.append(called(work))
        connection.close()

    running = [threading.Thread(target=caller) for _ in range(threads)]
    for thread in running:
        thread.start()
    ready.wait()
    print(json.dumps("ready"), flush=True)
    start = json.loads(sys.stdin.readline())
    processor = time.process_time()
    told.wait()
    for thread in running:
        thread.join()
    return {"calls": calls, "processor_seconds": time.process_time() - processor}


def called(work: Callable[[], int]) -> dict[str, Any]:
    begun = time.monotonic()
    try:
        status: Any = work()
    except Exception as error:
        status = repr(error)
    return {"status": status, "begun": begun, "ended": time.monotonic()}
