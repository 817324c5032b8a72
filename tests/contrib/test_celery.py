"""Celery: workers on a real broker refresh what is due, once, whichever of them dies."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from oauth_connect.contrib import celery as bridge
from oauth_connect.models import Connection
from tests.contrib.site import new_app
from tests.contrib.workers import Fleet, children
from tests.servers.rotating import RotatingServer
from tests.support.services import RABBITMQ, REDIS, Service
from tests.support.tokens import rows

ROOT = Path(__file__).resolve().parents[2]
COUNT = 20


def test_the_names_of_the_tasks_are_stable() -> None:
    assert bridge.dispatch_due.name == "oauth_connect.dispatch_due"
    assert bridge.refresh_connections.name == "oauth_connect.refresh_connections"


@pytest.mark.parametrize(
    "task", [bridge.dispatch_due, bridge.refresh_connections], ids=lambda task: task.name
)
def test_a_message_is_given_back_by_a_worker_that_dies(task: Any) -> None:
    assert task.acks_late
    assert task.reject_on_worker_lost


@pytest.mark.process
def test_without_celery_the_import_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "celery.py").write_text("raise ImportError('none here')", encoding="utf-8")
    code = "import django; django.setup(); import oauth_connect.contrib.celery"
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    finished = subprocess.run(
        [sys.executable, "-c", code], env=environ, check=False, capture_output=True, text=True, timeout=60
    )
    assert finished.returncode == 1
    assert "pip install 'django-oauth-connect[celery]'" in finished.stderr.splitlines()[-1]


@pytest.mark.django_db
def test_a_message_can_be_routed_by_its_provider_and_expires(
    due: list[Connection], current_app: Celery
) -> None:
    bridge.dispatch_due(chunk=COUNT, within=60, expires=120)
    with current_app.connection_for_read() as connection:
        message = connection.SimpleQueue(current_app.conf.task_default_queue).get(timeout=60)
    _, keywords, _ = message.payload
    assert keywords["provider"] == "rotating"
    assert keywords["within"] == 60
    assert set(keywords["pks"]) == {str(connection.pk) for connection in due}
    expires = datetime.fromisoformat(message.headers["expires"]) - datetime.now(UTC)
    assert timedelta(seconds=100) < expires <= timedelta(seconds=120)


@pytest.fixture
def current_app() -> Iterator[Celery]:
    app = new_app("memory://", "routed")
    app.set_default()
    yield app
    app.close()


@pytest.fixture
def due(
    rotating: RotatingServer, configure: Callable[..., None], make_connection: Callable[..., Connection]
) -> list[Connection]:
    """Connections that are due, with the refresh tokens token_0-0, token_1-0 ..."""
    configure(PROVIDERS={"rotating": rotating.entry()})
    return [
        make_connection(
            "rotating",
            age=7200 - number,
            response={
                "access_token": f"access-{number}",
                "refresh_token": f"token_{number}-0",
                "token_type": "Bearer",
                "expires_in": 3600,
            },
        )
        for number in range(COUNT)
    ]


@pytest.fixture(params=[REDIS, RABBITMQ], ids=["redis", "rabbitmq"])
def fleet(request: pytest.FixtureRequest, rotating: RotatingServer, tmp_path: Path) -> Iterator[Fleet]:
    broker: Service = request.param
    if broker.absence:
        pytest.skip(f"not there: {broker.absence}")
    queue = f"oauth_connect_{secrets.token_hex(6)}"
    made = Fleet(broker.url, queue, {"rotating": rotating.entry()}, tmp_path)
    yield made
    made.end()


def refreshed() -> int:
    return int(rows().filter(version=1).count())


def let_time_pass() -> None:
    """Let the leases of the dead run out, and what they held be due again, as after some seconds."""
    past = datetime.now(UTC) - timedelta(minutes=1)
    rows().filter(version=0).update(lease_until=1, refresh_at=past)


def assert_all_is_well(rotating: RotatingServer) -> None:
    assert rotating.spent == {f"token_{number}-0": 1 for number in range(COUNT)}
    states = set(rows().values_list("version", "status", "in_doubt", "lease_owner"))
    assert states == {(1, "active", False, "")}


@pytest.mark.slow
@pytest.mark.compliance("D30")
@pytest.mark.django_db(transaction=True)
def test_a_worker_killed_in_mid_batch_costs_no_connection(
    fleet: Fleet, rotating: RotatingServer, due: list[Connection]
) -> None:
    """Killed while requests of its batch are under way; the rest is refreshed by the other worker."""
    rotating.hang("token_3-0", "token_7-0")
    first = fleet.start()
    fleet.dispatch(chunk=COUNT)
    fleet.wait_until(lambda: len(rotating.hanging) == 2 and refreshed() == COUNT - 2, "a batch half done")

    fleet.start()
    fleet.kill(first)
    rotating.hang()
    let_time_pass()
    fleet.dispatch(chunk=5)

    fleet.wait_until(lambda: refreshed() == COUNT, "everything refreshed")
    assert_all_is_well(rotating)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_two_workers_with_the_same_messages_spend_each_refresh_token_once(
    fleet: Fleet, rotating: RotatingServer, due: list[Connection]
) -> None:
    fleet.start()
    fleet.start()
    keys = [str(connection.pk) for connection in due]
    for _ in range(4):
        fleet.send("oauth_connect.refresh_connections", keys)
        fleet.dispatch(chunk=7)
    fleet.wait_until(lambda: refreshed() == COUNT, "everything refreshed")
    fleet.wait_until(lambda: fleet.told.count(" succeeded in ") >= 8, "every message read")
    assert_all_is_well(rotating)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_what_one_worker_is_at_another_leaves_alone(
    fleet: Fleet, rotating: RotatingServer, due: list[Connection]
) -> None:
    """The lease alone keeps it away: the row looks due, as to a worker whose clock is ahead."""
    rotating.hang("token_3-0")
    fleet.start()
    keys = [str(connection.pk) for connection in due]
    fleet.send("oauth_connect.refresh_connections", keys)
    fleet.wait_until(
        lambda: rotating.hanging == ["token_3-0"] and refreshed() == COUNT - 1, "all but one done"
    )
    rows().filter(version=0).update(refresh_at=datetime.now(UTC) - timedelta(minutes=1))

    fleet.start()
    fleet.send("oauth_connect.refresh_connections", keys)
    fleet.wait_until(lambda: " succeeded in " in fleet.told, "the message read by the other worker")

    assert rotating.hanging == ["token_3-0"], "no second request with the same token"
    assert "token_3-0" not in rotating.spent


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_child_killed_in_mid_batch_gives_its_message_back(
    fleet: Fleet, rotating: RotatingServer, due: list[Connection]
) -> None:
    """No second dispatch: the worker itself hands the message to its next child."""
    rotating.hang("token_3-0")
    worker = fleet.start("--pool", "prefork", "--concurrency", "1")
    fleet.send("oauth_connect.refresh_connections", [str(connection.pk) for connection in due])
    fleet.wait_until(
        lambda: rotating.hanging == ["token_3-0"] and refreshed() == COUNT - 1, "all but one done"
    )

    let_time_pass_after_the_kill(worker)
    rotating.hang()

    fleet.wait_until(lambda: refreshed() == COUNT, "everything refreshed")
    assert_all_is_well(rotating)


def let_time_pass_after_the_kill(worker: subprocess.Popen[bytes]) -> None:
    """The lease must have run out before the message is read again; else the row is left to a later one."""
    for child in children(worker):
        os.kill(child, signal.SIGSTOP)  # it does no more ...
    let_time_pass()
    for child in children(worker):
        os.kill(child, signal.SIGKILL)  # ... and is gone
