"""Which tests a run collects, and what a skip means to it (a plugin of pytest, loaded by tests/conftest.py).

``--only-database``: those that use a database, but for those marked ``once``. A test marked ``vendor`` is
collected on the databases it names only. ``--no-skips``: a skip is a failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import TransactionTestCase

FIXTURES = {
    "django_db_setup",
    "db",
    "transactional_db",
    "django_db_reset_sequences",
    "django_db_serialized_rollback",
}
WRAPPED = pytest.hookimpl(wrapper=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("oauth_connect")
    group.addoption("--only-database", action="store_true", help="run the tests that use a database only")
    group.addoption("--no-skips", action="store_true", help="let a skipped test be a failed one")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    only_database = config.getoption("--only-database")
    chosen = [item for item in items if fits(item) and (not only_database or differs_by_database(item))]
    left_out = [item for item in items if item not in set(chosen)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    items[:] = chosen


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
