"""Type checkers know the public names of the installed wheel, as a site's own checks would use them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from tests.support.distributions import Distributions, foreign_environment, wheel_with_our_packages

pytestmark = pytest.mark.process

HERE = Path(__file__).parent
FILES = ("surface.py", "misuse.py")
STRICT = "[mypy]\nstrict = true\ncache_dir = /dev/null\n"
PLUGIN = (
    "plugins = mypy_django_plugin.main\n[mypy.plugins.django-stubs]\ndjango_settings_module = site_settings\n"
)
CHECKERS = ["mypy with the plugin", "mypy", "pyright"]


@dataclass
class Found:
    """What a checker says about a file, by line."""

    revealed: dict[int, str] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)

    def add(self, line: int, kind: str, message: str) -> None:
        if kind == "error":
            self.errors[line] = message
        elif revealed := re.fullmatch(r'(?:Revealed type|Type of ".*") is "(.*)"', message, re.DOTALL):
            self.revealed[line] = in_one_style(revealed[1])


def in_one_style(revealed: str) -> str:
    """Return a type without modules, ``def`` and the names of the variadic parameters."""
    bare = re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", revealed).removeprefix("def ")
    return bare.replace("(*Any, **Any)", "(...)")


Checked = Callable[[str], dict[str, Found]]


@pytest.fixture(scope="session")
def checked(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Checked:
    """Return what a checker says about the files. Each checker runs once."""
    folder = tmp_path_factory.mktemp("typing")
    for name in (*FILES, "site_settings.py"):
        shutil.copy(HERE / name, folder)
    python = wheel_with_our_packages(distributions, folder / "environment")
    return cache(lambda checker: check(checker, python, folder))


def check(checker: str, python: Path, folder: Path) -> dict[str, Found]:
    if checker == "pyright":
        if shutil.which("node") is None:
            pytest.skip("pyright needs Node")
        return by_pyright(python, folder)
    return by_mypy(python, folder, with_plugin="plugin" in checker)


def by_mypy(python: Path, folder: Path, *, with_plugin: bool) -> dict[str, Found]:
    (folder / "mypy.ini").write_text(STRICT + PLUGIN * with_plugin, encoding="utf-8")
    output = output_of([python, "-m", "mypy", "--no-error-summary", "--no-pretty", *FILES], folder)
    found = {name: Found() for name in FILES}
    for line in output.splitlines():
        said = re.fullmatch(r"(\w+\.py):(\d+): (error|note): (.*)", line)
        assert said, output
        found[said[1]].add(int(said[2]), said[3], said[4])
    return found


def by_pyright(python: Path, folder: Path) -> dict[str, Found]:
    configuration = {"include": FILES, "typeCheckingMode": "strict", "pythonVersion": "3.11"}
    (folder / "pyrightconfig.json").write_text(json.dumps(configuration), encoding="utf-8")
    output = output_of([python, "-m", "pyright", "--pythonpath", python, "--outputjson"], folder)
    found = {name: Found() for name in FILES}
    for said in json.loads(output)["generalDiagnostics"]:
        line = said["range"]["start"]["line"] + 1
        found[Path(said["file"]).name].add(line, said["severity"], said["message"])
    return found


def output_of(command: list[str | Path], folder: Path) -> str:
    finished = subprocess.run(
        command,
        cwd=folder,
        env=foreign_environment(),
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert finished.returncode in (0, 1), finished.stdout + finished.stderr
    return finished.stdout


def expected_types(checker: str) -> dict[int, str]:
    """Return the types that the comments of ``surface.py`` name, by line."""
    expected = {}
    for number, line in enumerate((HERE / "surface.py").read_text("utf-8").splitlines(), 1):
        if comment := re.search(r"reveal_type\(.*  # (.+?)(?: \(else: (.+)\))?$", line):
            expected[number] = comment[1] if "plugin" in checker else comment[2] or comment[1]
    return expected


def wrong_lines() -> set[int]:
    lines = (HERE / "misuse.py").read_text("utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("  # wrong")}


@pytest.mark.parametrize("checker", CHECKERS)
def test_each_public_name_has_the_type_that_a_site_needs(checked: Checked, checker: str) -> None:
    surface = checked(checker)["surface.py"]
    assert surface.errors == {}
    assert surface.revealed == expected_types(checker)


@pytest.mark.parametrize("checker", CHECKERS)
def test_each_mistake_is_reported_and_nothing_else(checked: Checked, checker: str) -> None:
    assert set(checked(checker)["misuse.py"].errors) == wrong_lines()
