"""The build enforces the layout that docs/architecture.md describes."""

import ast
import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command

ROOT = Path(__file__).resolve().parents[2]
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
EXTRAS = {"bench", "cells", "cli", "httpx", "keyring", "celery", "demo", "signing", "test", "dev"}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache", "--no-logo"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package and its contracts that a test may break."""
    shutil.copytree(ROOT / "oauth_connect", tmp_path / "oauth_connect")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.process
def test_every_import_runs_downwards() -> None:
    finished = lint_imports(ROOT)
    assert finished.returncode == 0, finished.stdout


@pytest.mark.process
@pytest.mark.parametrize(
    ("module", "statement", "named"),
    [
        ("engine/up.py", "import oauth_connect.models", "engine.up -> oauth_connect.models"),
        ("protocol/up.py", "import oauth_connect.conf", "protocol.up -> oauth_connect.conf"),
        ("protocol/framework.py", "import django", "protocol.framework -> django"),
        ("engine/library.py", "import oauthlib", "engine.library -> oauthlib"),
        ("stores/library.py", "import requests_oauthlib", "stores.library -> requests_oauthlib"),
        ("engine/client.py", "import httpx", "engine.client -> httpx"),
        ("engine/field.py", "import fernet_fields", "engine.field -> fernet_fields"),
        ("flows/across.py", "import oauth_connect.jobs", "flows.across -> oauth_connect.jobs"),
        ("jobs/across.py", "import oauth_connect.flows", "jobs.across -> oauth_connect.flows"),
        (
            "models/lifecycle/up.py",
            "import oauth_connect.models.querysets",
            "lifecycle.up -> oauth_connect.models",
        ),
        (
            "protocol/net/up.py",
            "import oauth_connect.protocol.provider",
            "net.up -> oauth_connect.protocol.provider",
        ),
        ("helpers.py", "", "oauth_connect.helpers"),
        ("models/helpers.py", "", "oauth_connect.models.helpers"),
        ("protocol/helpers.py", "", "oauth_connect.protocol.helpers"),
    ],
)
def test_a_module_that_breaks_a_contract_is_named(
    copy: Path, module: str, statement: str, named: str
) -> None:
    (copy / "oauth_connect" / module).write_text(f"{statement}\n", encoding="utf-8")
    finished = lint_imports(copy)
    assert finished.returncode == 1
    assert named in finished.stdout


@pytest.mark.django_db
def test_no_migration_is_missing() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_every_extra_exists() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert set(setup["options.extras_require"]) == EXTRAS


def test_metadata_are_only_in_setup_cfg() -> None:
    assert "[project]" not in (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()


def test_the_package_imports_one_of_its_modules_for_types_alone() -> None:
    """Such an import hides a circle: the lower module depends on the upper one after all.

    ``errors`` names the model, because an error's ``connection`` needs a type. It only passes the value on.
    ``testing`` imports its own modules when a name is first used.
    """
    package = ROOT / "oauth_connect"
    found = {
        (path.relative_to(package).as_posix(), module)
        for path in package.rglob("*.py")
        if package / "testing" not in path.parents
        for module in imported_for_types(ast.parse(path.read_text("utf-8")))
        if module.startswith("oauth_connect")
    }
    assert found == {("errors.py", "oauth_connect.models")}


def imported_for_types(tree: ast.Module) -> set[str]:
    """Return the modules that are imported below ``if TYPE_CHECKING``."""
    blocks = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    statements = [statement for block in blocks for statement in block.body]
    named = {each.name for one in statements if isinstance(one, ast.Import) for each in one.names}
    return named | {str(one.module) for one in statements if isinstance(one, ast.ImportFrom)}
