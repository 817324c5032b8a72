"""Processes for tests of key rotation: some refresh connections repeatedly, one re-encrypts them.

``python -m tests.support.keys`` reads its orders (JSON) from the first line of stdin and prints "ready".
A refreshing process continues until it reads the next line. Then it prints its results. A rotating process
starts when it reads a line. At the batch where it must stop it prints "stopped", and continues after the
next line.
"""

from __future__ import annotations

import io
import json
import random
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.conf import settings

from tests.support.processes import Forked, send_line, started


class Worker:
    """The test's handle of the process."""

    def __init__(self, task: str, used: Iterable[Any] = (), keys: Iterable[str] = (), **orders: Any) -> None:
        pks = [str(connection.pk) for connection in used]
        site = {**settings.OAUTH_CONNECT, **({"KEYS": list(keys)} if keys else {})}
        self.process: Forked = started(
            "tests.support.keys", {"task": task, "connections": pks, "settings": site, **orders}
        )

    def until(self, line: str) -> Worker:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == line
        return self

    def go(self) -> Worker:
        send_line(self.process, "go")
        return self

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def result(self) -> dict[str, Any]:
        output, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return dict(json.loads(output.splitlines()[-1]))


def main() -> None:
    orders = json.loads(sys.stdin.readline())
    import django

    django.setup()
    settings.OAUTH_CONNECT = {**settings.OAUTH_CONNECT, **orders["settings"]}
    done = refreshing(orders) if orders["task"] == "refresh" else rotating(orders)
    say(json.dumps(done))


def say(line: str) -> None:
    print(line, flush=True)


def refreshing(orders: dict[str, Any]) -> dict[str, Any]:
    stop = threading.Event()
    seen: Counter[str] = Counter()
    threads = [threading.Thread(target=refresh, args=(orders["connections"], stop, seen)) for _ in range(3)]
    for thread in threads:
        thread.start()
    say("ready")
    sys.stdin.readline()
    stop.set()
    for thread in threads:
        thread.join()
    return dict(seen)


def refresh(pks: list[str], stop: threading.Event, seen: Counter[str]) -> None:
    from django.db import connections

    from oauth_connect.models import Connection

    while not stop.is_set():
        try:
            Connection.objects.get(pk=random.choice(pks)).refresh()
            seen["refreshed"] += 1
        except Exception as error:
            seen[f"{type(error).__name__}: {error}"] += 1
    connections.close_all()


def rotating(orders: dict[str, Any]) -> dict[str, Any]:
    from django.core.management import call_command

    stop_at(orders.get("stop"), orders.get("when", "after"))
    say("ready")
    sys.stdin.readline()
    out = io.StringIO()
    options = {"batch_size": orders.get("batch_size", 500), "json": True}
    call_command("oauth_rotate_keys", stdout=out, **options)
    return dict(json.loads(out.getvalue()))


def stop_at(number: int | None, when: str) -> None:
    """Stop at batch ``number``: ``before`` its transaction (its rows are read), or ``after`` its write."""
    from oauth_connect.jobs import rotate_keys

    batches = iter(range(1, sys.maxsize))

    def stopping(exchange: Any) -> Any:
        def wrapped(*arguments: Any) -> Any:
            here = next(batches) == number
            if here and when == "before":
                stop()
            done = exchange(*arguments)
            if here and when == "after":
                stop()
            return done

        return wrapped

    if when == "before":
        rotate_keys._reencrypt = stopping(rotate_keys._reencrypt)
    else:
        rotate_keys.swap_ciphertexts = stopping(rotate_keys.swap_ciphertexts)


def stop() -> None:
    say("stopped")
    sys.stdin.readline()


if __name__ == "__main__":
    main()
