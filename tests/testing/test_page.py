"""docs/test-kit.md is a file of tests: its blocks run in a project as ``startproject`` makes it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from oauth_connect.testing import FakeProvider
from oauth_connect.testing.server.failures import ENDPOINTS
from tests.testing.test_empty_project import run_pytest, start_project

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "test-kit.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
URLS = [block for block in BLOCKS if block.startswith("# urls.py\n")]
TESTS = [block for block in BLOCKS if block not in URLS]
FAILURES = PAGE.partition("\n## Ten failures\n")[2].partition("\n## ")[0]


@pytest.mark.process
@pytest.mark.slow
def test_every_block_of_the_page_passes(tmp_path: Path) -> None:
    start_project(tmp_path)
    (tmp_path / "shop" / "urls.py").write_text("".join(URLS))
    # As a reader collects them: one file, with a mark for the tests that are functions.
    marked = "import pytest\n\npytestmark = pytest.mark.django_db\n\n"
    (tmp_path / "test_page.py").write_text(marked + "\n\n".join(TESTS))
    written = sum(len(re.findall(r"^ *(?:async )?def test_", block, re.MULTILINE)) for block in TESTS)
    assert f"{written} passed" in run_pytest(tmp_path)


def test_ten_failures_are_shown_by_a_short_test_each() -> None:
    tests = [
        block
        for block in re.findall(r"^```python\n(.*?)^```$", FAILURES, re.M | re.S)
        if "def test_" in block
    ]
    assert len(tests) == 10
    assert re.findall(r"^(\d+)\. ", FAILURES, re.MULTILINE) == [str(number) for number in range(1, 11)]
    assert [test for test in tests if len(test.partition("def test_")[2].splitlines()) > 7] == []


def test_every_public_name_of_a_fake_provider_has_a_row() -> None:
    names = {name for name in vars(FakeProvider) if not name.startswith("_")} | {"name"}
    assert [
        name
        for name in names
        if f"| `{name}" not in PAGE and f"`{name}(" not in PAGE and f", `{name}`" not in PAGE
    ] == []


def test_every_parameter_and_every_endpoint_is_named() -> None:
    for name in ("__init__", "connect", "store", "api", "fail", "recover", "consent"):
        for parameter in list(inspect.signature(getattr(FakeProvider, name)).parameters)[1:]:
            assert re.search(rf"\b{parameter}\b", PAGE), (name, parameter)
    for endpoint in ENDPOINTS:
        assert f"`{endpoint}`" in PAGE
