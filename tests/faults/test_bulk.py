"""A run of `oauth_refresh`: its database goes away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site

from oauth_connect.engine.store import ACTIVE
from oauth_connect.models import Connection
from tests.databases import ROOT, worker_environment
from tests.faults.test_database_loss import connect_to_database_server
from tests.servers.proxy import Proxy
from tests.servers.scripted import Answer, ScriptedServer

pytestmark = pytest.mark.django_db(transaction=True)

FRESH = {"access_token": "access-1", "refresh_token": "refresh-1", "token_type": "Bearer", "expires_in": 3600}


def rows() -> Any:
    return Connection._base_manager.all()


def wait_until(fulfilled: Callable[[], object]) -> None:
    give_up = time.monotonic() + 60
    while not fulfilled():
        assert time.monotonic() < give_up
        time.sleep(0.02)


class Run:
    """The process. What it writes goes into files, so that a test can see it before the end."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], changes: str) -> None:
        name = f"site_of_a_run_{len(list(folder.iterdir()))}"
        (folder / f"{name}.py").write_text(f"from tests.settings import *\n{changes}", encoding="utf-8")
        environment = {**worker_environment(), "DJANGO_SETTINGS_MODULE": name}
        environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT)])
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "django", "oauth_refresh", "--json", *arguments],
                cwd=ROOT,
                env=environment,
                stdout=out,
                stderr=err,
            )

    @property
    def told(self) -> str:
        return self._err.read_text()

    @property
    def document(self) -> Any:
        return json.loads(self._out.read_text())

    def ended(self) -> int:
        return self.process.wait(timeout=90)


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


@pytest.mark.compliance("D31")
@pytest.mark.vendor("postgresql", "mysql")
def test_answers_that_come_while_the_database_is_away_are_saved_when_it_is_back_and_asked_for_once(
    scripted, scripted_provider, many, start, proxy
):
    hold = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=hold))
    many(12, "scripted")
    run = start("--workers", "6", proxy=proxy)
    wait_until(lambda: len(scripted.asked("/token")) == 6)

    proxy.cut()
    hold.set()
    wait_until(lambda: "database failed while saving; trying again" in run.told)
    proxy.restore()

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
    wait_until(lambda: len(scripted.asked("/token")) == 76)

    proxy.cut()
    hold.set()
    wait_until(lambda: "database failed while saving; trying again" in run.told)
    proxy.restore()

    assert run.ended() == 1
    assert "The database does not answer" in run.told
    asked = spent(scripted)
    assert set(asked.values()) == {1}
    assert 76 <= len(asked) == saved() < 200

    # What it had claimed and not sent is free, or will be when its lease has run out.
    rows().filter(version=0).update(lease_until=0, refresh_at=datetime.now(UTC) - timedelta(hours=1))
    assert start().ended() == 0
    assert spent(scripted) == {f"row{number}-0": 1 for number in range(200)}
    assert saved() == 200
