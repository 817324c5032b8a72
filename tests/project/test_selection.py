"""The tests that each kind of run collects, and the missing servers and skips that it reports."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import databases, everywhere

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
MODULE = """
import pytest

def test_pure(): pass
def test_with_db(db): pass
def test_by_another_fixture(user): pass

@pytest.fixture
def user(transactional_db): pass

@pytest.mark.django_db
def test_marked(): pass

@pytest.mark.once
def test_once(db): pass

@pytest.mark.vendor("sqlite", "postgresql", "mysql")
def test_vendor(db): pass

@pytest.mark.vendor("oracle")
def test_foreign_vendor(db): pass
"""
OF_PROCESSES = """
import subprocess, sys
import pytest

@pytest.fixture
def start(): pass

def test_by_a_fixture(start): pass

@pytest.mark.process
def test_marked(): pass

@pytest.mark.slow
def test_slow(): pass

def test_without(): pass

def test_unmarked():
    subprocess.run([sys.executable, "-c", ""])
"""
OF_A_SKIP = """
import pytest

{}

def test_skipped():
    pytest.skip("nothing there")

@pytest.mark.skipif(True, reason="not today")
def test_skipped_by_a_mark(): pass

@pytest.mark.xfail(strict=True)
def test_expected(): assert False
"""
ALL = [*everywhere.DATABASES]
NO_SERVERS = {
    "OAUTH_CONNECT_TEST_POSTGRES_URL": "postgres://nobody@127.0.0.1:1/none",
    "OAUTH_CONNECT_TEST_MARIADB_URL": "",
    "OAUTH_CONNECT_TEST_REDIS_URL": "",
    "OAUTH_CONNECT_TEST_RABBITMQ_URL": "",
}


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # A run of its own, which must not use the databases of this run.
    environ = {name: value for name, value in os.environ.items() if name != databases.RUN}
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**environ, **variables},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def run_pytest(folder: Path, content: str, *options: str) -> subprocess.CompletedProcess[str]:
    module = folder / "test_it.py"
    module.write_text(content, encoding="utf-8")
    plugins = ["-p", "tests.support.selection", "-p", "no:cacheprovider", "-p", "no:randomly"]
    where = ["--rootdir", str(folder), "-c", str(ROOT / "setup.cfg")]
    return run("-m", "pytest", "-q", *plugins, *where, *options, str(module))


def collected(folder: Path, *options: str, content: str = MODULE) -> set[str]:
    finished = run_pytest(folder, content, "--collect-only", *options)
    return set(re.findall(r"::test_(\w+)", finished.stdout))


def test_on_a_second_database_only_tests_that_use_a_database_run(tmp_path: Path) -> None:
    assert collected(tmp_path, "--only-database") == {"with_db", "by_another_fixture", "marked", "vendor"}


def test_a_fast_run_skips_tests_that_start_a_process(tmp_path: Path) -> None:
    assert collected(tmp_path, "--fast", content=OF_PROCESSES) == {"without", "unmarked"}


def test_in_a_fast_run_a_test_that_starts_a_process_without_a_mark_fails(tmp_path: Path) -> None:
    finished = run_pytest(tmp_path, OF_PROCESSES, "--fast")
    assert "1 failed, 1 passed, 3 deselected" in finished.stdout
    assert "Mark it `process`." in finished.stdout


@pytest.mark.parametrize("given", [["--db", "oracle"], ["--db=oracle"], ["--db"], ["--db", "--fast"]])
def test_an_unknown_database_is_refused_in_one_line(given: list[str]) -> None:
    finished = run("dev.py", "test", *given)
    assert finished.returncode == 2
    (line,) = finished.stderr.splitlines()
    assert line.endswith("NAME is one of sqlite, postgresql, mariadb.")
    assert finished.stdout == ""


def test_dev_py_knows_every_database() -> None:
    assert runpy.run_path(str(ROOT / "dev.py"))["DATABASES"] == tuple(everywhere.DATABASES)


def test_a_test_of_another_database_is_not_collected(tmp_path: Path) -> None:
    everything = {"pure", "with_db", "by_another_fixture", "marked", "once", "vendor"}
    assert collected(tmp_path) == everything


def test_with_no_skips_a_skip_is_a_failure(tmp_path: Path) -> None:
    finished = run_pytest(tmp_path, OF_A_SKIP.format(""), "--no-skips")
    assert finished.returncode == 1
    assert "--no-skips: Skipped: nothing there" in finished.stdout
    assert "--no-skips: Skipped: not today" in finished.stdout
    assert "1 failed, 1 xfailed, 1 error" in finished.stdout


def test_with_no_skips_a_module_that_skips_itself_is_a_failure(tmp_path: Path) -> None:
    content = OF_A_SKIP.format('pytest.skip("a whole module", allow_module_level=True)')
    finished = run_pytest(tmp_path, content, "--no-skips")
    assert finished.returncode == pytest.ExitCode.INTERRUPTED
    assert "--no-skips: Skipped: a whole module" in finished.stdout


def test_without_no_skips_a_skip_is_a_skip(tmp_path: Path) -> None:
    finished = run_pytest(tmp_path, OF_A_SKIP.format(""))
    assert finished.returncode == 0
    assert "2 skipped, 1 xfailed" in finished.stdout


def test_what_a_machine_lacks_is_printed_in_one_last_line() -> None:
    command = ("-m", "tests.support.everywhere", "--collect-only", "-q", "tests/project/test_selection.py")
    finished = run(*command, **NO_SERVERS)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    lines = finished.stdout.splitlines()
    assert re.findall(r"=== Tests on (\w+)", finished.stdout) == ["SQLite", "PostgreSQL"]
    assert [line for line in lines if line.startswith("Not tested")] == [lines[-1]]
    # Node may be installed or not.
    assert re.findall(r"(\w+) \(", lines[-1])[:3] == ["MariaDB", "Redis", "RabbitMQ"]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in NO_SERVERS.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.usefixtures("bare")
def test_with_no_skips_a_missing_server_is_a_failure() -> None:
    assert everywhere.close(0, ALL, strict=True) == 1
    assert everywhere.close(0, ALL, strict=False) == 0
    assert everywhere.close(3, ALL, strict=False) == 3


def test_a_server_that_a_variable_names_must_respond(bare: pytest.MonkeyPatch, capsys: Any) -> None:
    bare.setenv("OAUTH_CONNECT_TEST_REDIS_URL", "redis://127.0.0.1:1/0")
    assert everywhere.close(0, ALL, strict=False) == 1
    assert "Redis (OAUTH_CONNECT_TEST_REDIS_URL, " in capsys.readouterr().out
