"""A site with another package in its settings: its own database file, commands in processes of their own.

The processes are forked from one that has imported the package (tests/support/forkserver.py).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.management.conftest import Run
from tests.servers.codeyard import Codeyard
from tests.support.processes import PIPE, Forked
from tests.support.processes import start as start_process

HERE = "tests.contrib.importers.other_site"
SETTINGS, ORDERS = "DJANGO_SETTINGS_MODULE", "OAUTH_CONNECT_TEST_SITE"


def orders_of(
    package: str, database: str, codeyard: Codeyard | None = None, **changes: Any
) -> dict[str, Any]:
    entry = codeyard.entry() if codeyard else {"client_id": "-", "client_secret": "-", "scopes": []}
    return {
        "package": package,
        "database": database,
        "codeyard": entry,
        "providers": {"codeyard": entry} if codeyard else {},
        "changes": changes,
    }


class OtherSite:
    def __init__(self, database: Path, package: str, codeyard: Codeyard | None, **changes: Any) -> None:
        self.package = package
        self.orders = orders_of(package, str(database), codeyard, **changes)

    def command(self, *arguments: str) -> Run:
        started = self.start("django", *arguments)
        out, err = started.communicate(timeout=120)
        return Run(out, err, started.returncode)

    def do(self, step: str, **orders: Any) -> Any:
        started = self.start(f"{HERE}.steps", step)
        out, err = started.communicate(json.dumps(orders), timeout=120)
        assert started.returncode == 0, err
        return json.loads(out)

    def start(self, module: str, *arguments: str) -> Forked:
        # What is imported is the same for each site of the package.
        preloaded_with = {
            SETTINGS: f"{HERE}.settings",
            ORDERS: json.dumps(orders_of(self.package, ":memory:")),
        }
        environment = {
            **os.environ,
            **preloaded_with,
            ORDERS: json.dumps(self.orders),
            "PYTHONUNBUFFERED": "1",
        }
        return start_process(
            module,
            *arguments,
            environment=environment,
            preloaded=f"{HERE}.preloaded",
            preloaded_with=preloaded_with,
            stderr=PIPE,
        )


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a database file with the tables of a package; made once."""

    @cache
    def make(package: str) -> Path:
        path = Path(tmp_path_factory.mktemp("migrated")) / "site.sqlite3"
        assert OtherSite(path, package, None).command("migrate").status == 0
        return path

    return make


@pytest.fixture
def other_site(tmp_path: Path, migrated: Callable[[str], Path]) -> Callable[..., OtherSite]:
    def make(package: str, codeyard: Codeyard | None = None, **changes: Any) -> OtherSite:
        database = shutil.copy(migrated(package), tmp_path / "site.sqlite3")
        return OtherSite(Path(database), package, codeyard, **changes)

    return make
