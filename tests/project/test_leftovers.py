"""A failing test leaves no process, no database and no queue behind."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import psutil
import pytest
import redis
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import OperationalError, connection
from django.test import TransactionTestCase

from oauth_connect.models import Connection
from tests.support import databases
from tests.support.databases import ATTACH, RUN, WORKER, worker_environment
from tests.support.empty_tables import empty_tables

ROOT = Path(__file__).resolve().parents[2]
NOTES = "OAUTH_CONNECT_TEST_NOTES"
FAILING = '''
"""Each test fails while a process that it has started still runs."""

import json
import os

import pytest

from tests.support import workers
from tests.contrib.test_celery import fleet
from tests.faults.processes import Worker
from tests.support.processes import started

pytestmark = pytest.mark.django_db(transaction=True)


def fail(*arguments):
    pytest.fail("on purpose")


def test_with_a_worker():
    Worker(task="call").ready()
    fail()


def test_with_callers(monkeypatch):
    monkeypatch.setattr(workers, "send_line", fail)
    workers.call_together(processes=2, threads=1, settings={}, connection="none", path="/")


def test_with_a_fleet(fleet):
    fleet.start()
    fleet.send("nothing")
    with open(os.environ["OAUTH_CONNECT_TEST_NOTES"], "a") as notes:
        notes.write(json.dumps([fleet.broker, fleet.queue]) + "\\n")
    fail()
'''


@pytest.mark.process
@pytest.mark.django_db
def test_tests_that_fail_leave_nothing_behind(tmp_path: Path) -> None:
    name = f"oauth_connect_{secrets.token_hex(4)}"
    notes, module = tmp_path / "notes", tmp_path / "test_failing.py"
    notes.touch()
    module.write_text(FAILING, encoding="utf-8")
    (tmp_path / "conftest.py").write_text("from tests.conftest import *", encoding="utf-8")
    options = ["-p", "no:cacheprovider", "-c", str(ROOT / "setup.cfg"), "--rootdir", str(tmp_path)]
    own = {key: value for key, value in os.environ.items() if key not in {WORKER, ATTACH}}
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(module)],
        cwd=ROOT,
        env={**own, RUN: name, NOTES: str(notes)},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == pytest.ExitCode.TESTS_FAILED, finished.stdout + finished.stderr
    last_line = finished.stdout.splitlines()[-1]
    queues = [json.loads(line) for line in notes.read_text().splitlines()]
    assert f" {2 + len(queues)} failed" in last_line, finished.stdout
    assert "passed" not in last_line
    assert "error" not in last_line

    assert [*processes_of(name)] == []
    assert [*databases_of(name)] == []
    assert [queue for broker, queue in queues if is_there(broker, queue)] == []


def processes_of(name: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.environ().get(RUN) == name and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.Error:
            continue  # it has ended, or belongs to another user


def databases_of(name: str) -> Iterator[str]:
    if connection.vendor == "sqlite":
        yield from (path.name for path in Path(tempfile.gettempdir()).glob(f"*{name}*"))
        return
    statement = {"postgresql": "SELECT datname FROM pg_database", "mysql": "SHOW DATABASES"}
    with connection.cursor() as cursor:
        cursor.execute(statement[connection.vendor])
        yield from (found for (found,) in cursor.fetchall() if name in found)


def is_there(broker: str, queue: str) -> bool:
    if broker.startswith("redis"):
        with redis.Redis.from_url(broker) as client:
            return any(client.scan_iter(f"{queue}*"))
    with kombu.Connection(broker) as there:
        try:
            there.default_channel.queue_declare(queue, passive=True)
        except there.channel_errors:
            return False
        return True


@pytest.mark.process
def test_a_process_does_not_make_the_sqlite_database_that_it_should_find(tmp_path: Path) -> None:
    """Otherwise the process would use an empty database of its own, and leave its file behind."""
    name = f"oauth_connect_{secrets.token_hex(4)}"
    code = "import django; django.setup(); from django.db import connection; connection.ensure_connection()"
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**worker_environment(), RUN: name, databases.DATABASE_URL: ""},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 1
    assert f"{OperationalError.__module__}.OperationalError: unable to open database file" in finished.stderr
    assert [*Path(tempfile.gettempdir()).glob(f"*{name}*")] == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("scripted_provider")
def test_a_test_that_commits_leaves_no_row_and_the_permissions(make_connection: Any) -> None:
    def permissions() -> set[tuple[int, int]]:
        return set(Permission.objects.values_list("pk", "content_type_id"))

    before = permissions()
    make_connection()

    empty_tables(TransactionTestCase())

    assert before
    assert permissions() == before
    assert not Connection.objects.exists()
    assert not get_user_model().objects.exists()
