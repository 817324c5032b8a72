"""The benchmarks run. Without this test, a broken benchmark would be found only when it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--rounds", "1", "--count", "50", "--many", "60", "--rows", "500", "--databases", "sqlite")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    # The benchmarks use their own settings and databases, not those of these tests.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OAUTH_CONNECT_")}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    written = tmp_path_factory.mktemp("benchmarks") / "results.json"
    finished = run("--json", str(written), *SMALL)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout, json.loads(written.read_text("utf-8"))["databases"]["sqlite"]


def test_each_subject_is_measured_and_has_a_table(measured):
    printed, results = measured
    assert set(results) == {"about", "bulk", "memory", "expiry", "due", "call"}
    assert printed.count("\n## ") == 5


def test_every_answer_of_a_bulk_run_is_seen_read_sent_and_committed(measured):
    _, results = measured
    for recipe in ("ours", "threads"):
        for found in results["bulk"][recipe]:
            assert 0 <= found["since_read_median"] <= found["since_sent_median"] <= found["since_sent_max"]


def test_an_unknown_subject_is_reported():
    finished = run("--only", "bulk,speed")
    assert finished.returncode == 2
    assert "speed: there are bulk, memory" in finished.stderr
