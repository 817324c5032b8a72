"""The benchmarks run. Without this test, a broken benchmark would be found only when it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bars, document
from benchmarks.subjects import NAMES

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--quick", "--calls", "6", "--count", "50", "--many", "60", "--rows", "500", "--loaded", "50")
PAGE = f"before\n{document.BEGIN}\nold\n{document.END}\nafter\n"


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
    folder = tmp_path_factory.mktemp("benchmarks")
    written, page = folder / "results.json", folder / "page.md"
    page.write_text(PAGE, "utf-8")
    finished = run("--json", str(written), "--write", str(page), *SMALL)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout in page.read_text("utf-8")
    return finished.stdout, json.loads(written.read_text("utf-8"))


@pytest.mark.slow
def test_each_subject_is_measured_and_has_a_table(measured):
    printed, results = measured
    assert set(results["databases"]["sqlite"]) == {"about", *NAMES}
    assert results["imports"]["runs"].keys() >= {"Django alone", "oauth_connect, with its pages"}
    assert printed.count("\n### ") == len(NAMES) + 1


@pytest.mark.slow
def test_every_answer_of_a_bulk_run_is_seen_read_sent_and_committed(measured):
    _, results = measured
    for recipe in ("ours", "threads"):
        for found in results["databases"]["sqlite"]["bulk"][recipe]:
            assert 0 <= found["since_read_median"] <= found["since_sent_median"] <= found["since_sent_max"]


@pytest.mark.slow
def test_a_session_of_this_package_stands_beside_those_of_the_packages_that_are_installed(measured):
    printed, results = measured
    first_call = results["databases"]["sqlite"]["first_call"]
    for situation in ("plain", "tls", "shared"):
        assert first_call[situation]["runs"].keys() > {bars.PLAIN, bars.BY_USER, bars.BY_KEY}
        assert {"django-allauth", "social-auth-app-django"} < first_call[situation]["runs"].keys()
        for title in first_call[situation]["absent"]:
            assert title in printed


@pytest.mark.slow
def test_a_line_below_its_table_says_of_each_bar_whether_it_is_met(measured):
    printed, results = measured
    found = [str(bar) for name, of in bars.BARS.items() for bar in of(results["databases"]["sqlite"][name])]
    assert len(found) == 11
    assert [bar for bar in found if f"- sqlite: {bar}" not in printed] == []


@pytest.mark.process
def test_an_unknown_subject_is_reported():
    finished = run("--only", "bulk,speed")
    assert finished.returncode == 2
    assert "speed: there are held_call, first_call" in finished.stderr


@pytest.mark.process
def test_a_page_is_not_written_with_some_of_its_tables(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE, "utf-8")
    assert run("--only", "imports", "--write", str(page)).returncode == 2
    assert page.read_text("utf-8") == PAGE


@pytest.mark.parametrize(
    ("found", "at_least", "verdict"),
    [
        (1.04, False, "met"),
        (1.06, False, "not met"),
        (1.04, True, "not met"),
        (1.06, True, "met"),
        (None, False, "not measured"),
    ],
)
def test_a_bar_is_met_up_to_its_limit(found, at_least, verdict):
    assert bars.Bar("something", 1.05, found, at_least=at_least).verdict == verdict


def test_the_best_other_package_is_neither_ours_nor_a_floor():
    ours = {bars.BY_USER: 2, bars.BY_KEY: 3}
    took = {bars.PLAIN: 1, "a plain row and requests": 2, **ours, "slow": 9, "fast": 8}
    runs = {name: [{"took": value}] for name, value in took.items()}
    assert bars.best(runs) == "fast"
    assert bars.best({name: runs[name] for name in (bars.PLAIN, bars.BY_USER)}) is None


def test_figures_replace_those_of_the_page_and_nothing_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE, "utf-8")
    document.write(page, ["new"])
    assert page.read_text("utf-8") == f"before\n{document.BEGIN}\n\nnew\n\n{document.END}\nafter\n"
    document.write(page, ["newer"])
    assert "new\n" not in page.read_text("utf-8")


@pytest.mark.parametrize("text", ["", document.BEGIN, f"{document.END}\n{document.BEGIN}", 2 * PAGE])
def test_a_page_without_its_markers_is_not_written(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    with pytest.raises(ValueError, match="has no"):
        document.write(page, ["new"])
    assert page.read_text("utf-8") == text


def test_the_documentation_has_a_place_for_the_figures():
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    assert page.count(document.BEGIN) == page.count(document.END) == 1
