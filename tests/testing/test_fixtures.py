"""The plugin of pytest, in a process in which Django has no settings yet."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.process


@pytest.mark.parametrize("module", ["oauth_connect.testing", "oauth_connect.testing.fixtures"])
def test_it_is_imported_before_django_is_set_up(module: str) -> None:
    """pytest loads plugins of a command line, and of a conftest.py, before pytest-django sets Django up."""
    command = [sys.executable, "-c", f"import {module}"]
    subprocess.run(command, check=True, timeout=300, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": "."})
