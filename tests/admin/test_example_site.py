"""The example project's admin, clicked through with its own settings and a real provider."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.codeyard import CLIENT_ID, CLIENT_SECRET

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.compliance("D48", "D49")
def test_staff_walk_through_it(codeyard, tmp_path: Path) -> None:
    grant = codeyard.grant("ada")
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.admin.clicks"],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "example_project.site.settings",
            "SITE_DATABASE": str(tmp_path / "desk.sqlite3"),
            "CODEYARD_URL": codeyard.url,
            "CODEYARD_CLIENT_ID": CLIENT_ID,
            "CODEYARD_CLIENT_SECRET": CLIENT_SECRET,
        },
        input=json.dumps(grant),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("\n") == 12
    assert grant["access_token"] not in finished.stdout + finished.stderr
    assert codeyard.refreshes == 1
    assert codeyard.stats["revocations"] == 1
