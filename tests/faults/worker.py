"""One process that uses a connection as it is told to, and stops at named points of a refresh.

``python -m tests.faults.worker`` reads its orders (JSON) from the first line of stdin, gets ready, says so,
and begins when a second line comes. At a point where it is to stop it says ``at POINT`` and goes on when
another line comes, unless it has been killed. Its last lines are JSON:
what it has logged, then a result for each caller.

The points and the faults are made here, around the product's own functions: it has no hooks for them.
"""

from __future__ import annotations

import contextlib
import datetime as datetimes
import importlib
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.support.waiting import Tally

BEFORE_CLAIM, BEFORE_POST = "before_claim", "before_post"
BEFORE_SAVE, AFTER_SAVE = "before_save", "after_save"


def main() -> None:
    orders = json.loads(sys.stdin.readline())
    set_up(orders)
    results: list[dict[str, Any]] = []
    logged = listen()
    barrier = threading.Barrier(len(orders["connections"]) + 1)
    callers = [
        threading.Thread(target=caller, args=(pk, orders, barrier, results)) for pk in orders["connections"]
    ]
    for thread in callers:
        thread.start()
    say("ready")
    sys.stdin.readline()
    barrier.wait()
    for thread in callers:
        thread.join()
    say(json.dumps({"logged": logged}))
    for result in results:
        say(json.dumps(result))


def say(line: str) -> None:
    print(line, flush=True)


def listen() -> list[str]:
    """Note the ``action`` of each record that the app logs as a warning or worse."""
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(getattr(record, "action", ""))

    logging.getLogger("oauth_connect").addHandler(Listener(logging.WARNING))
    return heard


# --- getting ready --------------------------------------------------------------------------------


def set_up(orders: dict[str, Any]) -> None:
    import django

    django.setup()
    from django.conf import settings

    settings.OAUTH_CONNECT = {**settings.OAUTH_CONNECT, **orders["settings"]}
    database = settings.DATABASES["default"]
    database["OPTIONS"] = {**database["OPTIONS"], **orders["options"]}
    if orders["port"]:  # a proxy's, also where the server itself listens at a Unix socket
        database.update(HOST="127.0.0.1", PORT=orders["port"])
    arrange_pauses(orders["save_pauses"])
    arrange_stops(orders["stops"], callers=len(orders["connections"]))
    if orders["slept"]:
        let_time_pass_after_the_claim(orders["slept"])
    if orders["clock"]:
        shift_clock(orders["clock"])


def arrange_pauses(pauses: list[float] | None) -> None:
    if pauses is not None:
        importlib.import_module("oauth_connect.stores.row").SAVE_PAUSES = tuple(pauses)  # type: ignore[attr-defined]


def arrange_stops(points: list[str], *, callers: int) -> None:
    """Stop at these points; before a claim, only when the other callers wait for the one that claims."""
    from oauth_connect.protocol.client import AuthorizationServer
    from oauth_connect.stores.row import RowStore

    def stopping(function: Callable[..., Any], before: str, after: str) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            stop(before)
            result = function(*args, **kwargs)
            stop(after)
            return result

        return wrapped

    def stop(point: str) -> None:
        if point in points:
            points.remove(point)
            if point == BEFORE_CLAIM:
                waiting.wait_for(callers - 1)
            say(f"at {point}")
            sys.stdin.readline()

    def peek(store: RowStore) -> Any:
        seen = look(store)
        waiting.add()
        return seen

    waiting, look = Tally("a caller that waits"), RowStore.peek
    RowStore.peek = peek  # type: ignore[method-assign]
    AuthorizationServer.refresh = stopping(AuthorizationServer.refresh, BEFORE_POST, "")  # type: ignore[method-assign]
    RowStore.claim = stopping(RowStore.claim, BEFORE_CLAIM, "")  # type: ignore[method-assign]
    RowStore.save = stopping(RowStore.save, BEFORE_SAVE, AFTER_SAVE)  # type: ignore[method-assign]


def let_time_pass_after_the_claim(seconds: float) -> None:
    """As if the process had been stopped right after its claim, for so many seconds."""
    from oauth_connect.stores.row import RowStore

    claim, monotonic = RowStore.claim, time.monotonic

    def slow(*args: Any, **kwargs: Any) -> bool:
        got = claim(*args, **kwargs)
        time.monotonic = lambda: monotonic() + seconds
        return got

    RowStore.claim = slow  # type: ignore[method-assign]


def shift_clock(seconds: float) -> None:
    """Set this machine's clock wrong, for everything that asks it for a date."""
    real = datetimes.datetime
    by = datetimes.timedelta(seconds=seconds)

    class Wrong(real):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real.now(tz) + by

    for name, module in list(sys.modules.items()):
        if (
            name.startswith(("oauth_connect", "django.utils.timezone"))
            and vars(module).get("datetime") is real
        ):
            module.datetime = Wrong  # type: ignore[attr-defined]


# --- working --------------------------------------------------------------------------------------


def caller(
    pk: str, orders: dict[str, Any], barrier: threading.Barrier, results: list[dict[str, Any]]
) -> None:
    from django.db import connections

    from oauth_connect.models import Connection

    try:
        connection = Connection.objects.get(pk=pk)
        barrier.wait()
        results.append(within(orders["inside"], lambda: use(connection, orders)))
    except Exception as error:
        results.append(told(error))
    finally:
        connections.close_all()


def use(connection: Any, orders: dict[str, Any]) -> dict[str, Any]:
    if orders["task"] == "call":
        statuses = [connection.session().get(orders["path"]).status_code for _ in range(orders["times"])]
        return {"status": statuses[-1], "version": connection.version}
    done = getattr(connection, orders["task"])()
    return {"token": done, "version": connection.version}


def within(transactions: list[str], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Work inside the transactions named, from the outermost on.

    ``atomic``, ``durable``, ``roll back`` (at its end), ``writes`` (something of the site's own, at first).
    """
    if not transactions:
        return work()
    with transaction_of(transactions[0]):
        return within(transactions[1:], work)


@contextlib.contextmanager
def transaction_of(kind: str) -> Iterator[None]:
    from django.contrib.auth import get_user_model
    from django.db import transaction

    with transaction.atomic(durable=kind == "durable"):
        if kind == "writes":
            get_user_model().objects.create(username="written in the transaction")
        yield
        if kind == "roll back":
            transaction.set_rollback(True)


def told(error: Exception) -> dict[str, Any]:
    return {
        "error": type(error).__name__,
        "code": getattr(error, "code", ""),
        "message": str(error),
        "notes": list(getattr(error, "__notes__", [])),
    }


if __name__ == "__main__":
    main()
