"""Selects the tests of a run and the worker of each test (loaded by tests/conftest.py).

``--only-database`` collects the tests that use a database, except those marked ``once``. A test marked
``vendor`` is collected only on the databases that the mark names. ``--fast`` collects the tests that start no
process. Such a test fails if it starts one. ``--no-skips`` makes a skip a failure.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import TransactionTestCase
from xdist.scheduler import LoadScopeScheduling

FIXTURES = {
    "django_db_setup",
    "db",
    "transactional_db",
    "django_db_reset_sequences",
    "django_db_serialized_rollback",
}
# Each of these starts a process, or uses one that starts a process.
PROCESS_FIXTURES = {
    "browser",
    "codeyard_process",
    "distributions",
    "fleet",
    "migrated",
    "oidc_process",
    "process",
    "rotating_process",
    "script",
    "site",
    "start",
    "worker",
}
# Modules whose tests share something that is slow to create. One worker runs all tests of such a module.
ON_ONE_WORKER = {
    "tests/contract/test_against_others.py",
    "tests/project/test_benchmarks.py",
    "tests/project/test_packaging.py",
    "tests/reporters/test_reporters.py",
    "tests/testing/server/test_pages.py",
    "tests/testing/test_quickstart.py",
    "tests/typing/test_typing.py",
    "tests/views/test_browser.py",
}
STARTS_A_PROCESS = {"os.exec", "os.fork", "os.posix_spawn", "os.system", "subprocess.Popen"}  # audit events
WRAPPED = pytest.hookimpl(wrapper=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("oauth_connect")
    group.addoption("--only-database", action="store_true", help="run only the tests that use a database")
    group.addoption("--fast", action="store_true", help="run only the tests that start no process")
    group.addoption("--no-skips", action="store_true", help="make a skipped test a failed one")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--fast"):
        config.pluginmanager.register(NoProcesses(), "no-processes")


class OneTestAtATime(LoadScopeScheduling):
    """Gives a worker one test at a time, because the lengths of tests differ a thousandfold."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if module in ON_ONE_WORKER else nodeid

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """Forget a scope that is done. After each test, xdist counts the tests of all scopes."""
        scope = self._split_scope(self.registered_collections[node][item_index])
        super().mark_test_complete(node, item_index, duration)
        if all(self.assigned_work[node][scope].values()):
            del self.assigned_work[node][scope]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return OneTestAtATime(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    conditions = [fits]
    if config.getoption("--only-database"):
        conditions.append(differs_by_database)
    if config.getoption("--fast"):
        conditions.append(starts_no_process)
    selected, others = [], []
    for item in items:
        (selected if all(condition(item) for condition in conditions) else others).append(item)
    if others:
        config.hook.pytest_deselected(items=others)
    items[:] = selected
    if hasattr(config, "workerinput"):
        # The longest tests first, so that no worker still runs one when the others are done.
        items.sort(key=lambda item: (item.get_closest_marker("slow") is None, starts_no_process(item)))


def fits(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("vendor")
    return marker is None or connection.vendor in marker.args


def differs_by_database(item: pytest.Item) -> bool:
    return uses_database(item) and item.get_closest_marker("once") is None


def uses_database(item: pytest.Item) -> bool:
    if item.get_closest_marker("django_db") or FIXTURES & set(getattr(item, "fixturenames", ())):
        return True
    case = getattr(item, "cls", None)
    return case is not None and issubclass(case, TransactionTestCase)


def starts_no_process(item: pytest.Item) -> bool:
    marked = item.get_closest_marker("process") or item.get_closest_marker("slow")
    return not marked and not PROCESS_FIXTURES & set(getattr(item, "fixturenames", ()))


class NoProcesses:
    """Refuses to start a process while a test runs."""

    def __init__(self) -> None:
        self.forbidden = False
        sys.addaudithook(self._on_event)

    @WRAPPED
    def pytest_runtest_protocol(self) -> Iterator[Any]:
        self.forbidden = True
        try:
            return (yield)
        finally:
            self.forbidden = False

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.forbidden and event in STARTS_A_PROCESS:
            raise RuntimeError("--fast: this test starts a process. Mark it `process`.")


@WRAPPED
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    report = yield
    return skip_as_failure(report) if item.config.getoption("--no-skips") else report


@WRAPPED
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[Any]:
    report = yield
    return skip_as_failure(report) if collector.config.getoption("--no-skips") else report


def skip_as_failure(report: Any) -> Any:
    """Make a skip a failure. An expected failure (xfail) is not changed."""
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"--no-skips: {reason}"
    return report
