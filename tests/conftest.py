from __future__ import annotations

import itertools
import os
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import django
import django.test.utils
import hypothesis
import pytest
from django.contrib.auth import get_user_model
from django.db import connections
from django.test import TransactionTestCase
from filelock import FileLock

from oauth_connect.models import Connection
from tests.servers.codeyard import Codeyard
from tests.servers.rotating import RotatingServer
from tests.servers.scripted import Answer, ScriptedServer
from tests.support import processes
from tests.support.browser import Browser
from tests.support.databases import WORKER
from tests.support.distributions import Distributions, built
from tests.support.empty_tables import empty_tables
from tests.support.follow_ups import wait_for_follow_ups
from tests.support.services import CHROMIUM
from tests.support.visitor import Visitor

pytest_plugins = ["tests.support.selection"]
# A busy machine must not fail a test.
hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")
# For the long run: --hypothesis-profile=thorough. Each test has twenty times as many examples.
hypothesis.settings.register_profile("thorough", hypothesis.settings.default, max_examples=2000)
collect_ignore = [] if django.VERSION >= (6, 0) else ["test_django_tasks.py"]


@pytest.fixture(scope="session")
def django_db_modify_db_settings_parallel_suffix() -> None:
    """The databases already have the worker's name, known to child processes (support/databases.py)."""


@pytest.fixture(scope="session", autouse=True)
def few_tables_are_emptied() -> Iterator[None]:
    """After a test that commits, keep the tables that no test changes (support/empty_tables.py)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", empty_tables)
        yield


@pytest.fixture(scope="session")
def shared_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if WORKER in os.environ else base


@pytest.fixture(scope="session")
def distributions(shared_path: Path) -> Distributions:
    """The sdist and the wheel of the package."""
    return built(shared_path)


@pytest.fixture(scope="session")
def codeyard_process(tmp_path_factory: pytest.TempPathFactory, shared_path: Path) -> Iterator[Codeyard]:
    """Codeyard, one for each worker. The first database is copied, because its migrations take seconds."""
    database = Path(tmp_path_factory.mktemp("codeyard"), "codeyard.sqlite3")
    template = shared_path / database.name
    with FileLock(template.with_suffix(".lock")):
        if template.exists():
            shutil.copy(template, database)
        server = Codeyard(database)
        if not template.exists():
            with sqlite3.connect(database) as source, sqlite3.connect(template) as copy:
                source.backup(copy)
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def nothing_runs_after_a_test() -> Iterator[None]:
    """End the processes of the test, and wait for the follow-up thread (SQLite)."""
    yield
    processes.end_all()
    wait_for_follow_ups()


@pytest.fixture
def configure(settings: Any) -> Callable[..., None]:
    """Set keys of OAUTH_CONNECT for one test."""

    def change(**changes: Any) -> None:
        settings.OAUTH_CONNECT = {**settings.OAUTH_CONNECT, **changes}

    return change


@pytest.fixture
def in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the site run as outside of tests: Django's test environment is not active."""
    monkeypatch.delattr(django.test.utils._TestState, "saved_data")


@pytest.fixture
def codeyard(codeyard_process: Codeyard, configure: Callable[..., None]) -> Codeyard:
    """The real authorization server with its counters at zero. Its provider is in the settings."""
    codeyard_process.reset()
    configure(PROVIDERS={"codeyard": codeyard_process.entry()})
    return codeyard_process


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture
def scripted_entry(scripted: ScriptedServer) -> dict[str, Any]:
    """Return the settings entry of a provider at the scripted server."""
    return {
        "client_id": "client",
        "client_secret": "secret",
        "authorization_endpoint": f"{scripted.url}/authorize",
        "token_endpoint": f"{scripted.url}/token",
        "revocation_endpoint": f"{scripted.url}/revoke",
        "api_base_url": f"{scripted.url}/api/",
    }


@pytest.fixture
def scripted_provider(scripted_entry: dict[str, Any], configure: Callable[..., None]) -> dict[str, Any]:
    configure(PROVIDERS={"scripted": scripted_entry})
    return scripted_entry


@pytest.fixture
def user(db: None) -> Any:
    return get_user_model().objects.create_user(username="grace", password="a password")


@pytest.fixture
def make_connection(user: Any) -> Callable[..., Connection]:
    """Store a connection. Its token is valid for an hour, and was obtained ``age`` seconds ago."""
    accounts = itertools.count(1)

    def make(
        provider: str = "scripted",
        *,
        age: float = 0,
        response: dict[str, Any] | None = None,
        **options: Any,
    ) -> Connection:
        token_response = response or {
            "access_token": "access-0",
            "refresh_token": "refresh-0",
            "token_type": "Bearer",
            "expires_in": 3600,
        }
        return Connection.objects.store(
            **{"owner": user, "account_id": str(next(accounts)), **options},
            provider=provider,
            token_response=token_response,
            obtained_at=datetime.now(UTC) - timedelta(seconds=age),
        )

    return make


@pytest.fixture(scope="session")
def rotating_process() -> Iterator[RotatingServer]:
    server = RotatingServer()
    yield server
    server.stop()


@pytest.fixture
def rotating(rotating_process: RotatingServer, configure: Callable[..., None]) -> RotatingServer:
    """A strict provider in a process of its own. It is in the settings."""
    rotating_process.reset()
    configure(PROVIDERS={"rotating": rotating_process.entry()})
    return rotating_process


@pytest.fixture
def many(make_connection: Callable[..., Connection]) -> Callable[..., list[Connection]]:
    """Store due connections whose refresh tokens are ``row0-0``, ``row1-0`` and so on."""

    def make(count: int, provider: str = "rotating") -> list[Connection]:
        issued = {"access_token": "access-0", "token_type": "Bearer", "expires_in": 3600}
        return [
            make_connection(
                provider, age=7200 + number, response={**issued, "refresh_token": f"row{number}-0"}
            )
            for number in range(count)
        ]

    return make


@pytest.fixture
def visitor(user: Any) -> Visitor:
    """The user, signed in."""
    return Visitor(user)


@pytest.fixture
def other_user(db: None) -> Any:
    return get_user_model().objects.create_user(username="mallory", password="another password")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM.absence:
        pytest.skip(f"not there: {CHROMIUM.absence}")
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def canary() -> str:
    """Return the start of every token of a test. No output may contain it."""
    return f"canary-{secrets.token_hex(8)}"


@pytest.fixture
def issues(scripted: ScriptedServer, canary: str) -> Callable[..., None]:
    """Let the scripted server's token endpoint issue a token. ``None`` leaves a field out."""

    def issue(**fields: Any) -> None:
        answer = {
            "access_token": f"{canary}-access",
            "refresh_token": f"{canary}-refresh",
            "token_type": "Bearer",
            "expires_in": 3600,
            **fields,
        }
        body = {name: value for name, value in answer.items() if value is not None}
        scripted.on("/token", Answer(body=body))

    issue()
    return issue


@pytest.fixture
def calls_at_once() -> Callable[[int, Callable[[], Any]], list[Any]]:
    """Call from several threads in parallel, and return the results or the exceptions."""

    def run(count: int, call: Callable[[], Any]) -> list[Any]:
        barrier = threading.Barrier(count)

        def caller() -> Any:
            barrier.wait(60)
            try:
                return call()
            except Exception as error:
                return error
            finally:
                connections.close_all()

        with ThreadPoolExecutor(count) as pool:
            return [future.result() for future in [pool.submit(caller) for _ in range(count)]]

    return run
