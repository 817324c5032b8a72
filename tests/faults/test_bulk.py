"""A run of `oauth_refresh`: its database goes away, it is killed, it is asked to stop."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site
from django.db import connection as database

from oauth_connect.conf import conf
from oauth_connect.engine.store import ACTIVE, REAUTHORIZATION_REQUIRED
from oauth_connect.engine.timing import lease_seconds
from oauth_connect.jobs.refresh.worker_pool import MAX_UNSAVED
from oauth_connect.models import Connection
from oauth_connect.stores.clock import DatabaseMilliseconds
from tests.faults.test_database_loss import connect_to_database_server
from tests.servers.proxy import Proxy
from tests.servers.scripted import Answer, ScriptedServer
from tests.support import processes
from tests.support.databases import ROOT, worker_environment
from tests.support.tokens import FRESH, rows
from tests.support.waiting import TIMEOUT, eventually

pytestmark = pytest.mark.django_db(transaction=True)

TABLE = Connection._meta.db_table
# By the table, not by its rows: a run passes over rows that are locked.
HOLD_WRITES = {
    "sqlite": (["BEGIN IMMEDIATE"], "ROLLBACK"),
    "postgresql": (["BEGIN", f"LOCK TABLE {TABLE} IN SHARE MODE"], "ROLLBACK"),
    "mysql": ([f"LOCK TABLES {TABLE} READ"], "UNLOCK TABLES"),
}


@pytest.fixture(autouse=True)
def patient(configure: Callable[..., None]) -> None:
    """A request that a test holds back does not time out while it does."""
    configure(HTTP_TIMEOUT=50)


class Run:
    """The process. What it writes goes into files, so that a test can see it before the end."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], changes: str) -> None:
        name = f"site_of_a_run_{len(list(folder.iterdir()))}"
        (folder / f"{name}.py").write_text(f"from tests.settings import *\n{changes}", encoding="utf-8")
        environment = {**worker_environment(), "DJANGO_SETTINGS_MODULE": name}
        environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT)])
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = processes.start(
                "django",
                "oauth_refresh",
                "--json",
                *arguments,
                environment=environment,
                stdin=None,
                stdout=out.fileno(),
                stderr=err.fileno(),
                warnings_are_errors=True,
            )

    @property
    def told(self) -> str:
        return self._err.read_text()

    @property
    def document(self) -> Any:
        return json.loads(self._out.read_text())

    def ended(self) -> int:
        return self.process.wait(timeout=2 * TIMEOUT)

    def retries(self) -> None:
        """Wait until it has met the database's absence."""
        eventually(lambda: "database failed while saving; trying again" in self.told, lambda: self.told)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start `oauth_refresh` on this test's database, by way of a proxy where one is given."""
    runs: list[Run] = []

    def begin(*arguments: str, proxy: Proxy | None = None) -> Run:
        changes = [f"OAUTH_CONNECT = {site.OAUTH_CONNECT!r}"]
        if proxy is not None:
            changes.append(f"DATABASES['default'].update(HOST='127.0.0.1', PORT='{proxy.port}')")
        runs.append(Run(tmp_path, arguments, "\n".join(changes)))
        return runs[-1]

    yield begin
    for run in runs:
        run.process.kill()
        run.process.wait()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy(connect_to_database_server)
    yield proxy
    proxy.close()


def spent(server: ScriptedServer) -> Counter[str]:
    """How often each refresh token was sent."""
    return Counter(request.form["refresh_token"] for request in server.asked("/token"))


def saved() -> int:
    return rows().filter(version=1, lease_owner="", in_doubt=False, status=ACTIVE).count()


# --- the database goes away -----------------------------------------------------------------------


def answer_while_away(run, proxy, hold):
    """Let the held answers come while the database is away. It is back when the run has repeated a save."""
    proxy.cut()
    hold.set()
    run.retries()
    proxy.restore()


@pytest.mark.compliance("D31")
@pytest.mark.vendor("postgresql", "mysql")
def test_answers_that_come_while_the_database_is_away_are_saved_when_it_is_back_and_asked_for_once(
    scripted, scripted_provider, many, start, proxy
):
    hold = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=hold))
    many(12, "scripted")
    run = start("--workers", "6", proxy=proxy)
    scripted.wait_for("/token", 6)

    answer_while_away(run, proxy, hold)

    assert run.ended() == 0, run.told
    assert run.document["providers"]["scripted"]["refreshed"] == saved() == 12
    assert spent(scripted) == {f"row{number}-0": 1 for number in range(12)}


@pytest.mark.compliance("D31")
@pytest.mark.vendor("postgresql", "mysql")
def test_a_run_that_cannot_claim_on_saves_what_it_has_asked_for_and_ends_with_an_error(
    scripted, scripted_provider, many, start, proxy
):
    """In full flow: many are saved, many are under way, and more than it has claimed are due."""
    hold = threading.Event()
    scripted.on("/token", *[Answer(body=FRESH)] * 60, Answer(body=FRESH, hold=hold))
    many(200, "scripted")
    run = start("--workers", "16", proxy=proxy)
    scripted.wait_for("/token", 76)

    answer_while_away(run, proxy, hold)

    assert run.ended() == 1
    assert "The database reports an error" in run.told
    asked = spent(scripted)
    assert set(asked.values()) == {1}
    assert 76 <= len(asked) == saved() < 200

    # What it had claimed and not sent is free, or will be when its lease has run out.
    rows().filter(version=0).update(lease_until=0, refresh_at=datetime.now(UTC) - timedelta(hours=1))
    assert start().ended() == 0
    assert spent(scripted) == {f"row{number}-0": 1 for number in range(200)}
    assert saved() == 200


@pytest.mark.compliance("D31")
@pytest.mark.vendor("postgresql", "mysql")
def test_a_loop_whose_database_was_unavailable_continues_with_its_next_pass(
    scripted, scripted_provider, many, start, proxy
):
    """So many answers that the history is the first to meet the broken connection, and a claim the next."""
    hold = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=hold))
    many(300, "scripted")
    run = start("--workers", "64", "--loop", "1", proxy=proxy)
    scripted.wait_for("/token", 64)

    answer_while_away(run, proxy, hold)

    eventually(lambda: saved() == 300 or run.process.poll() is not None, lambda: f"all saved\n{run.told}")
    run.process.send_signal(signal.SIGTERM)
    assert run.ended() == 0, run.told
    assert spent(scripted) == {f"row{number}-0": 1 for number in range(300)}
    assert saved() == 300


# --- killed ---------------------------------------------------------------------------------------


@contextmanager
def writes_held() -> Iterator[None]:
    """From when this begins, nobody else's write gets into the table of connections."""
    begin, end = HOLD_WRITES[database.vendor]
    with database.cursor() as cursor:
        for statement in begin:
            cursor.execute(statement)
        try:
            yield
        finally:
            cursor.execute(end)


def wait_until_unchanged(look: Callable[[], int]) -> int:
    """Wait until what is looked at has stood still for a second; return it."""
    seen, since = look(), time.monotonic()
    while time.monotonic() < since + 1:
        time.sleep(0.05)
        if (now := look()) != seen:
            seen, since = now, time.monotonic()
    return seen


SESSIONS_OF_OTHERS = {
    "postgresql": """SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()""",
    "mysql": """SELECT count(*) FROM information_schema.processlist
                WHERE db = database() AND id <> connection_id()""",
}


def sessions_of_others() -> int:
    """Count the database's other sessions. One of a killed process first ends the statement that it is in."""
    if database.vendor == "sqlite":
        return 0
    with database.cursor() as cursor:
        cursor.execute(SESSIONS_OF_OTHERS[database.vendor])
        return int(cursor.fetchone()[0])


def let_leases_run_out() -> None:
    """As if their time were over by the database's clock, which is when their rows are due again."""
    led = rows().exclude(lease_owner="")
    led.update(lease_until=DatabaseMilliseconds() - 1, refresh_at=datetime.now(UTC) - timedelta(seconds=1))


@pytest.mark.compliance("D31")
def test_a_run_that_is_killed_in_full_flow_loses_what_its_workers_were_at_and_a_few_answers_more(
    rotating, many, start
):
    """Even where the database takes nothing any more while answers go on coming."""
    workers, count = 32, 400
    many(count)
    # The last of them are answered never, so that the run is at work whenever it is looked at.
    rotating.hang(*(f"row{number}-0" for number in range(100)))
    before = sessions_of_others()
    run = start("--workers", str(workers))
    eventually(lambda: saved() > 100, lambda: f"a hundred saved\n{run.told}")
    with writes_held():
        wait_until_unchanged(lambda: len(rotating.spent))
        run.process.kill()
        run.ended()
        eventually(rotating.serves_nobody, "an end of what it had sent")
    rotating.hang()
    # A claim or a batch that waited for the table is carried out after its process has ended.
    eventually(lambda: sessions_of_others() <= before, "an end of the killed run's sessions")
    kept, lost = saved(), len(rotating.spent) - saved()

    assert lost <= workers + MAX_UNSAVED
    assert set(rotating.spent.values()) == {1}

    # All others are due, those that it had claimed when their leases have run out.
    leases_over = datetime.now(UTC) + timedelta(seconds=lease_seconds(conf.http_timeout))
    assert rows().filter(version=0, status=ACTIVE, refresh_at__lte=leases_over).count() == count - kept
    let_leases_run_out()
    start().ended()

    assert saved() == count - lost
    ended = rows().filter(status=REAUTHORIZATION_REQUIRED)
    assert list(ended.values_list("last_error", flat=True)) == ["rotation_lost"] * lost

    # Nobody loops: a third run finds nothing to ask for.
    asked = rotating.spent
    assert set(asked.values()) <= {1, 2}
    assert start().ended() == 0
    assert rotating.spent == asked


# --- asked to stop --------------------------------------------------------------------------------


def test_a_loop_that_is_asked_to_stop_finishes_what_is_in_flight_and_frees_what_it_has_not_sent(
    scripted, scripted_provider, many, start
):
    hold = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=hold))
    before = {connection.pk: connection.refresh_at for connection in many(8, "scripted")}
    run = start("--workers", "2", "--loop", "1")
    scripted.wait_for("/token", 2)
    eventually(lambda: rows().exclude(lease_owner="").count() >= 6, "four more claimed ahead")
    assert rows().exclude(lease_owner="").count() == 6, "four are claimed ahead, and two are not yet"

    run.process.send_signal(signal.SIGTERM)
    eventually(lambda: rows().exclude(lease_owner="").count() == 2, lambda: f"four freed\n{run.told}")
    hold.set()

    assert run.ended() == 0, run.told
    assert (run.document["stopped"], run.document["total"]) == (True, 2)
    assert saved() == len(scripted.asked("/token")) == 2
    left = rows().filter(version=0, lease_owner="")
    assert dict(left.values_list("pk", "refresh_at")).items() <= before.items()
    assert left.count() == 6
