"""A site without django.contrib.admin never meets this package's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = """
import sys
import django
from django.conf import settings
from tests import settings as whole

INSTALLED_APPS = [app for app in whole.INSTALLED_APPS if app != "django.contrib.admin"]
settings.configure(
    **{name: value for name, value in vars(whole).items() if name.isupper()}
    | {"INSTALLED_APPS": INSTALLED_APPS, "ROOT_URLCONF": "oauth_connect.urls"}
)
django.setup()

from django.core.management import call_command
from django.urls import get_resolver

call_command("check")
assert get_resolver().url_patterns
print(sorted(name for name in sys.modules if ".admin" in name and not name.startswith("django.contrib.auth")))
"""


@pytest.mark.process
def test_a_site_without_the_admin_starts_and_imports_nothing_of_it() -> None:
    environ = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", SITE],
        cwd=ROOT,
        env=environ,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "[]"
