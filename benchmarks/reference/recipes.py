"""Refreshing tokens as briefly as it can be written."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from cryptography.fernet import Fernet
from django.conf import settings
from django.db import connection, transaction

from benchmarks.reference.models import Token

THREADS = 64
ROWS_A_TRANSACTION = 50
ROWS_A_CLAIM = 500
LEASE = timedelta(seconds=60)
LEEWAY = timedelta(seconds=60)
POLL = 0.005
FERNET = Fernet(settings.OAUTH_CONNECT["KEYS"][0])
CLIENT = {"client_id": "benchmark", "client_secret": "secret"}
WRITE = (
    f"UPDATE {Token._meta.db_table} SET access_token = %s, refresh_token = %s, "
    "expires_at = %s, leased_until = %s WHERE id = %s"
)
_own = threading.local()


def session() -> requests.Session:
    """This thread's session, which keeps its connection."""
    if not hasattr(_own, "session"):
        _own.session = requests.Session()
    return _own.session  # type: ignore[no-any-return]


def seal(text: str) -> str:
    return FERNET.encrypt(text.encode()).decode()


def opened(sealed: str) -> str:
    return FERNET.decrypt(sealed).decode()


def fetch(row: Token) -> dict[str, Any]:
    """Spend a row's refresh token."""
    form = {"grant_type": "refresh_token", "refresh_token": opened(row.refresh_token), **CLIENT}
    response = session().post(f"{settings.AUTHORITY}/token", data=form)
    response.raise_for_status()
    return dict(response.json())


def values(answer: dict[str, Any]) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "access_token": seal(answer["access_token"]),
        "refresh_token": seal(answer["refresh_token"]),
        "expires_at": now + timedelta(seconds=answer["expires_in"]),
        "leased_until": now,
    }


# --- one after the other --------------------------------------------------------------------------


def refresh_serially() -> int:
    """Read a row, post, save it; and the next."""
    count = 0
    while row := Token.objects.filter(expires_at__lte=datetime.now(UTC)).order_by("expires_at").first():
        for name, value in values(fetch(row)).items():
            setattr(row, name, value)
        row.save()
        count += 1
    return count


# --- many at once ---------------------------------------------------------------------------------


def refresh_in_threads(saved: Callable[[list[int]], None]) -> int:
    """Claim all that is due, post in threads, and let one writer save what has come by then.

    `saved` hears the keys of the rows of each transaction, once that has ended.
    """
    rows = claimed()
    answers: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
    writer = threading.Thread(target=write_as_they_come, args=(answers, len(rows), saved))
    writer.start()
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(lambda row: answers.put((*values(fetch(row)).values(), row.pk)), rows):
            pass
    writer.join()
    return len(rows)


def claimed() -> list[Token]:
    now = datetime.now(UTC)
    rows = list(Token.objects.filter(expires_at__lte=now, leased_until__lte=now).order_by("expires_at", "pk"))
    for start in range(0, len(rows), ROWS_A_CLAIM):
        keys = [row.pk for row in rows[start : start + ROWS_A_CLAIM]]
        Token.objects.filter(pk__in=keys).update(leased_until=now + LEASE)
    return rows


def write_as_they_come(
    answers: queue.SimpleQueue[tuple[Any, ...]], count: int, saved: Callable[[list[int]], None]
) -> None:
    while count:
        batch = [answers.get()]
        while len(batch) < ROWS_A_TRANSACTION and not answers.empty():
            batch.append(answers.get())
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(WRITE, [(*map(adapted, row[:-1]), row[-1]) for row in batch])
        saved([row[-1] for row in batch])
        count -= len(batch)
    connection.close()


def adapted(value: Any) -> Any:
    return connection.ops.adapt_datetimefield_value(value) if isinstance(value, datetime) else value


# --- one expiry, many callers ---------------------------------------------------------------------


def valid_token(pk: int) -> str:
    """Return the access token; whoever gets the lease refreshes it, the others look again every 5 ms."""
    while True:
        row = Token.objects.get(pk=pk)
        now = datetime.now(UTC)
        if row.expires_at > now + LEEWAY:
            return opened(row.access_token)
        rows = Token.objects.filter(pk=pk, expires_at=row.expires_at, leased_until=row.leased_until)
        if row.leased_until <= now and rows.update(leased_until=now + LEASE):
            answer = fetch(row)
            Token.objects.filter(pk=pk).update(**values(answer))
            return str(answer["access_token"])
        time.sleep(POLL)
