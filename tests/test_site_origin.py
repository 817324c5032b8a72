"""The tests of a site that leaves BASE_URL out, run by Django's own runner in a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from oauth_connect.site_origin import base_url_problem, in_test_environment
from tests.support.processes import ROOT

pytestmark = pytest.mark.once

SETTINGS = """
from tests.settings import *
OAUTH_CONNECT = {**OAUTH_CONNECT, "PROVIDERS": {"p": {
    "client_id": "c", "authorization_endpoint": "https://id.example/a", "token_endpoint": "https://id.example/t",
    "api_base_url": "https://api.example/"}}}
del OAUTH_CONNECT["BASE_URL"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
"""
TESTS = """
from urllib.parse import parse_qs, urlsplit
import requests
from django.contrib.auth import get_user_model
from django.test import LiveServerTestCase, TestCase

class Site:
    def setUp(self):
        self.client.force_login(get_user_model().objects.create(username="grace"))

class Posts(Site, TestCase):
    def test_connect(self):
        url = urlsplit(self.client.post("/oauth/p/connect/")["Location"])
        assert parse_qs(url.query)["redirect_uri"] == ["http://testserver/oauth/p/callback/"]

class Live(Site, LiveServerTestCase):
    def test_connect(self):
        cookies = {name: morsel.value for name, morsel in self.client.cookies.items()}
        cookies["csrftoken"] = "c" * 32
        answer = requests.post(f"{self.live_server_url}/oauth/p/connect/", {"csrfmiddlewaretoken": "c" * 32},
                               cookies=cookies, allow_redirects=False)
        found = parse_qs(urlsplit(answer.headers["Location"]).query)["redirect_uri"]
        assert found == [f"{self.live_server_url}/oauth/p/callback/"]
"""


@pytest.mark.process
def test_manage_py_test_needs_no_base_url(tmp_path: Path) -> None:
    (tmp_path / "site_without_base_url.py").write_text(SETTINGS)
    (tmp_path / "test_site.py").write_text(TESTS)
    finished = _django(tmp_path, "test", str(tmp_path))
    assert "Ran 2 tests" in finished.stderr
    assert finished.returncode == 0, finished.stderr


@pytest.mark.process
def test_the_same_site_is_refused_by_check(tmp_path: Path) -> None:
    (tmp_path / "site_without_base_url.py").write_text(SETTINGS)
    finished = _django(tmp_path, "check")
    assert finished.returncode == 1
    assert "oauth_connect.E003" in finished.stderr


def _django(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "django", *arguments, "--settings", "site_without_base_url"],
        cwd=ROOT,
        env={"PYTHONPATH": f"{folder}:{ROOT}", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_production_is_no_test_environment(in_production) -> None:
    assert not in_test_environment()


@pytest.mark.parametrize("url", ["app.example", "localhost:8000", "//app.example", "www.app.example/"])
def test_an_origin_without_a_scheme_gets_a_whole_sentence(url: str) -> None:
    assert base_url_problem(url).startswith("has no scheme. Write the whole origin")
