"""A project as ``startproject`` makes it, with the kit only: no key, no BASE_URL, no provider."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.process, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
URLS = """
from django.http import JsonResponse
from django.urls import include, path
from oauth_connect.flows import session_for
from oauth_connect.views import connection_required


@connection_required("github", scopes=["repo"])
def repositories(request):
    return JsonResponse(session_for(request.user, "github").get("user/repos").json(), safe=False)


urlpatterns = [
    path("connections/", include("oauth_connect.urls")),
    path("repositories/", repositories),
]
"""
TESTS = """
from django.contrib.auth.models import User
from django.test import {case}
from oauth_connect.testing import FakeProviderMixin


class {name}(FakeProviderMixin, {case}):
    def setUp(self):
        self.client.force_login(User.objects.create(username="grace"))
        self.github = self.fake("github")

    def test_repositories(self):
        self.github.connect(self.client, scopes=["repo"])
        self.github.api("GET", "/user/repos", json=["{name}"])
        self.assertEqual(self.client.get("/repositories/").json(), ["{name}"])
        self.assertEqual(len({{one.headers["host"] for one in self.github.requests}}), 1)

    def test_reconnect(self):
        self.github.end_grant(self.github.connect(self.client, scopes=["repo"]))
        self.assertIn("/connections/github/connect/", self.client.get("/repositories/")["Location"])
"""
CASES = {"Views": "TestCase", "Jobs": "TransactionTestCase", "Pages": "LiveServerTestCase"}


def start_project(folder: Path) -> None:
    run(folder, "-m", "django", "startproject", "shop", ".")
    with (folder / "shop" / "settings.py").open("a") as settings:
        settings.write('\nINSTALLED_APPS += ["oauth_connect"]\n')
    (folder / "conftest.py").write_text('pytest_plugins = ["oauth_connect.testing.fixtures"]\n')


@pytest.fixture
def project(tmp_path: Path) -> Path:
    start_project(tmp_path)
    (tmp_path / "shop" / "urls.py").write_text(URLS)
    for name, case in CASES.items():
        (tmp_path / f"test_{name.lower()}.py").write_text(TESTS.format(name=name, case=case))
    return tmp_path


def run(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for name in ("DJANGO_SETTINGS_MODULE", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def run_pytest(folder: Path, *arguments: str) -> str:
    """Run the tests of a project with pytest and pytest-django, and no other plugin of this machine."""
    plugins = ("-p", "pytest_django.plugin", "-p", "no:cacheprovider")
    return run(folder, "-m", "pytest", "-q", "--ds", "shop.settings", *plugins, *arguments)


def test_its_tests_pass_in_parallel(project):
    output = run(project, "manage.py", "test", "--parallel", "2")
    assert "Ran 6 tests" in output


def test_its_tests_pass_with_pytest_in_several_processes(project):
    (project / "test_fixture.py").write_text(FIXTURE)
    assert "7 passed" in run_pytest(project, "-p", "xdist.plugin", "-n", "2")


FIXTURE = """
def test_with_the_fixture(fake_provider, client, admin_user):
    client.force_login(admin_user)
    github = fake_provider("github")
    assert github.connect(client, scopes=["repo"]).has_scopes("repo")
"""
