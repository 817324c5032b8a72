"""A site with another package in its settings: its own database file, commands in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.management.conftest import Run
from tests.servers.codeyard import Codeyard

ROOT = Path(__file__).resolve().parents[3]
HERE = "tests.contrib.importers.other_site"


class OtherSite:
    def __init__(self, database: Path, package: str, codeyard: Codeyard | None, **changes: Any) -> None:
        entry = codeyard.entry() if codeyard else {"client_id": "-", "client_secret": "-", "scopes": []}
        self.orders: dict[str, Any] = {
            "package": package,
            "database": str(database),
            "codeyard": entry,
            "providers": {"codeyard": entry} if codeyard else {},
            "changes": changes,
        }

    def command(self, *arguments: str) -> Run:
        started = self.start("django", *arguments)
        out, err = started.communicate(timeout=120)
        return Run(out, err, started.returncode)

    def do(self, step: str, **orders: Any) -> Any:
        started = self.start(f"{HERE}.steps", step)
        out, err = started.communicate(json.dumps(orders), timeout=120)
        assert started.returncode == 0, err
        return json.loads(out)

    def start(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                "DJANGO_SETTINGS_MODULE": f"{HERE}.settings",
                "OAUTH_CONNECT_TEST_SITE": json.dumps(self.orders),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
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
