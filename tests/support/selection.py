"""Which tests a run collects, which worker runs them, and what a skip means (loaded by tests/conftest.py).

``--only-database``: those that use a database, but for those marked ``once``. A test marked ``vendor`` is
collected on the databases it names only. ``--fast``: those that start no process; one that starts a process
all the same fails. ``--no-skips``: a skip is a failure.
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
# Each of these starts a process, or has one started.
PROCESS_FIXTURES = {
    "codeyard_process",
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
# Modules whose tests share what takes long to make, so that one worker runs them all.
TOGETHER = {
    "tests/contract/test_against_others.py",
    "tests/project/test_benchmarks.py",
    "tests/project/test_packaging.py",
}
STARTS_A_PROCESS = {"os.exec", "os.fork", "os.posix_spawn", "os.system", "subprocess.Popen"}  # audit events
WRAPPED = pytest.hookimpl(wrapper=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("oauth_connect")
    group.addoption("--only-database", action="store_true", help="run the tests that use a database only")
    group.addoption("--fast", action="store_true", help="run the tests that start no process only")
    group.addoption("--no-skips", action="store_true", help="let a skipped test be a failed one")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--fast"):
        config.pluginmanager.register(NoProcesses(), "no-processes")


class OneByOne(LoadScopeScheduling):
    """Hands out one test after the other, because their lengths differ a thousandfold."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if module in TOGETHER else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return OneByOne(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    conditions = [fits]
    if config.getoption("--only-database"):
        conditions.append(differs_by_database)
    if config.getoption("--fast"):
        conditions.append(starts_no_process)
    chosen = [item for item in items if all(condition(item) for condition in conditions)]
    left_out = [item for item in items if item not in set(chosen)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    items[:] = chosen
    if hasattr(config, "workerinput"):
        # The longest first, so that no worker has one left when the others are done.
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
    """Refuse what starts a process while a test runs."""

    def __init__(self) -> None:
        self.forbidden = False
        sys.addaudithook(self._hear)

    @WRAPPED
    def pytest_runtest_protocol(self) -> Iterator[Any]:
        self.forbidden = True
        try:
            return (yield)
        finally:
            self.forbidden = False

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.forbidden and event in STARTS_A_PROCESS:
            raise RuntimeError("--fast: a test that starts a process is marked `process`")


@WRAPPED
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    report = yield
    return forbidden(report) if item.config.getoption("--no-skips") else report


@WRAPPED
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[Any]:
    report = yield
    return forbidden(report) if collector.config.getoption("--no-skips") else report


def forbidden(report: Any) -> Any:
    """Turn a skip into a failure; an expected failure is none."""
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"--no-skips: {reason}"
    return report
