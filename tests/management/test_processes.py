"""oauth_refresh --processes: several processes share a run, and whichever dies, the others lose nothing."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oauth_connect.jobs.refresh import fleet
from oauth_connect.jobs.refresh.base import Share
from oauth_connect.management import progress
from oauth_connect.management.commands import oauth_refresh
from oauth_connect.models import Connection
from tests.management.conftest import finished
from tests.servers.scripted import Answer
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.django_db(transaction=True)

FRESH = {"access_token": "access-1", "refresh_token": "refresh-1", "token_type": "Bearer", "expires_in": 3600}
DUE = 7200


@pytest.fixture(autouse=True)
def patient(configure: Callable[..., None]) -> None:
    """A request that a test holds back does not time out while it does."""
    configure(HTTP_TIMEOUT=50)


def claimed() -> int:
    return Connection.objects.exclude(lease_owner="").count()


def saved() -> int:
    return Connection.objects.filter(version=1).count()


def children(of: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{of.pid}/task/{of.pid}/children").read_text().split()]


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.compliance("D52")
def test_several_processes_refresh_each_once_and_one_table_counts_all(rotating, many, process):
    many(40)
    run = process("oauth_refresh", "--processes", "3", "--workers", "6", "--json")
    assert run.status == 0, run.err
    assert run.document["providers"]["rotating"]["refreshed"] == run.document["total"] == 40
    assert rotating.spent == {f"row{number}-0": 1 for number in range(40)}
    assert Connection.objects.filter(version=1, lease_owner="").count() == 40


def test_a_limit_is_that_of_all_processes(rotating, many, process):
    many(20)
    run = process("oauth_refresh", "--processes", "2", "--limit", "7", "--json")
    assert (run.status, run.document["total"]) == (0, 7)
    assert len(rotating.spent) == 7


@pytest.mark.parametrize("idle", [False, True])
def test_a_process_that_may_not_ask_a_provider_keeps_nothing_of_the_limit(
    scripted, scripted_entry, configure, make_connection, process, idle
):
    slow = {**scripted_entry, "refresh": {"at_once": 1}}
    configure(PROVIDERS={"scripted": slow, "idle": scripted_entry})
    scripted.on("/token", Answer(body=FRESH))
    for _ in range(6):
        make_connection(age=DUE)
    if idle:  # of which each process may have some, and there are none due
        make_connection("idle")
    run = process("oauth_refresh", "--processes", "4", "--limit", "4", "--json")
    assert (run.status, run.document["total"]) == (0, 4), run.err
    assert Connection.objects.filter(version=1).count() == len(scripted.asked("/token")) == 4


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_provider_gets_no_more_requests_at_once_than_its_entry_says(
    scripted, scripted_entry, configure, make_connection, start, at_once
):
    configure(PROVIDERS={"scripted": {**scripted_entry, "refresh": {"at_once": at_once}}})
    hold = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=hold))
    for _ in range(4):  # more than one of them claims
        make_connection(age=DUE)
    running = start("oauth_refresh", "--processes", "2", "--json")
    try:
        scripted.wait_for("/token", at_once)
        time.sleep(0.5)  # one more would come at once
        assert len(scripted.asked("/token")) == at_once
    finally:
        hold.set()
        run = finished(running)
    assert (run.status, run.document["total"]) == (0, 4), run.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_every_process_finish_what_is_in_flight(
    scripted, scripted_provider, make_connection, start, number
):
    """The provider answers once they have freed what they had claimed and not sent."""
    hold = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=hold))
    for _ in range(6):
        make_connection(age=DUE)
    running = start("oauth_refresh", "--json", "--workers", "2", "--processes", "2")
    try:
        scripted.wait_for("/token", 2)
        running.send_signal(number)
        eventually(lambda: claimed() == 2, "four freed, or never claimed")
    finally:
        hold.set()
        run = finished(running)

    assert run.status == 0, run.err
    assert run.document["stopped"]
    assert run.document["total"] == 2
    assert Connection.objects.filter(version=1).count() == 2
    assert not Connection.objects.exclude(lease_owner="").exists()


def test_a_process_that_is_killed_is_told_and_the_others_go_on(rotating, many, start):
    many(12)
    rotating.hang(*(f"row{number}-0" for number in range(12)))
    running = start("oauth_refresh", "--processes", "2", "--workers", "2")
    eventually(lambda: len(rotating.hanging) == 2, "one request of each")
    os.kill(children(running)[0], signal.SIGKILL)
    rotating.hang()  # the answer of the other one's first is lost
    run = finished(running)

    assert run.status == 1
    assert "A process of this run ended with exit code -9" in run.err
    assert "Traceback" not in run.err
    assert set(rotating.spent.values()) == {1}
    assert Connection.objects.filter(version=1).count() >= 8, "all but what the dead one had claimed"


def test_processes_whose_maker_is_killed_finish_what_is_in_flight_and_claim_no_more(
    scripted, scripted_provider, make_connection, start
):
    """They find that out when they tell of what was answered first; each has one more under way by then."""
    first, second = threading.Event(), threading.Event()
    held = Answer(body=FRESH, hold=first)
    scripted.on("/token", held, held, Answer(body=FRESH, hold=second))
    for _ in range(8):
        make_connection(age=DUE)
    running = start("oauth_refresh", "--workers", "2", "--processes", "2")
    scripted.wait_for("/token", 2)
    left = children(running)
    running.kill()
    running.wait(PATIENCE)
    time.sleep(fleet.WITHIN)  # an answer that comes sooner is kept to be told with the next
    first.set()
    eventually(
        lambda: saved() == 2 and claimed() == len(scripted.asked("/token")) - 2, "all freed but what is sent"
    )
    second.set()
    eventually(lambda: all(map(is_gone, left)), "both processes gone")
    running.communicate(timeout=PATIENCE)

    assert saved() == len(scripted.asked("/token")) < 8
    assert not claimed()


@pytest.mark.parametrize(
    ("what", "error"),
    [("crew.claim_due", "OperationalError"), ("crew.provider_state.ill_lately", "InterfaceError")],
)
def test_a_database_error_of_a_process_is_told_without_its_words(
    rotating, many, start, tmp_path, what, error
):
    many(2)
    fails = (
        f"from django.db import {error}\n"
        "from oauth_connect.flows import crew\n"
        "def fail(*arguments, **options):\n"
        f"    raise {error}('secret words')\n"
        f"{what} = fail\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(['manage.py', 'oauth_refresh', '--processes', '2'])\n"
    )
    start("check").communicate(timeout=60)  # writes the settings
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "site_of_a_test", "OAUTH_CONNECT_TEST_ATTACH": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(Path(__file__).resolve().parents[2])])
    begun = "import django\ndjango.setup()\n"
    run = subprocess.run(
        [sys.executable, "-c", begun + fails],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert "does not answer as it should" in run.stderr
    assert error in run.stderr
    assert "secret" not in run.stderr + run.stdout


def test_where_no_process_can_be_forked_it_is_refused(command, monkeypatch):
    monkeypatch.setattr(oauth_refresh, "can_fork", lambda: False)
    run = command("oauth_refresh", "--processes", "2")
    assert run.status == 2
    assert "needs fork" in run.err


@pytest.mark.parametrize("among", [1, 2, 3, 7])
def test_shares_of_a_number_are_all_of_it(among):
    for whole in range(20):
        parts = [Share(place, among).of(whole) for place in range(among)]
        assert sum(parts) == whole
        assert max(parts) - min(parts) <= 1


def test_a_bar_starts_no_thread() -> None:
    before = threading.active_count()
    tqdm: Any = progress.tqdm
    with progress.threadless(tqdm.tqdm)(total=1, disable=False, file=io.StringIO()) as bar:
        bar.update()
        assert threading.active_count() == before
