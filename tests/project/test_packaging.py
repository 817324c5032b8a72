"""The distributions are complete, and the wheel works in an environment with nothing else."""

import re
from pathlib import Path

import pytest

from tests.support.distributions import ROOT, Distributions, Site, environment_in, run

pytestmark = pytest.mark.slow

PACKAGE = ROOT / "oauth_connect"

SITE_SETTINGS = """
SECRET_KEY = "of a site"
USE_TZ = True
ROOT_URLCONF = "site_urls"
LOGIN_URL = "https://login.example/"
STATIC_URL = "static/"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "oauth_connect",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
}]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite3"}}
OAUTH_CONNECT = {
    "KEYS": ["Zm9yIGEgc2l0ZS4uLi4uLi4uLi4uLi4uLi4uLi4uLi4="],
    "BASE_URL": "https://site.example",
    "PROVIDERS": {},
}
"""
SITE_URLS = """
from django.urls import include, path

urlpatterns = [path("oauth/", include("oauth_connect.urls"))]
"""


@pytest.fixture(scope="session")
def site(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    python = environment_in(folder / "environment", with_pip=True)
    run([python, "-m", "pip", "install", "--quiet", distributions.wheel], cwd=folder)
    (folder / "site_settings.py").write_text(SITE_SETTINGS, encoding="utf-8")
    (folder / "site_urls.py").write_text(SITE_URLS, encoding="utf-8")
    return Site(folder, python)


def package_files() -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_lacks_no_file_of_the_package(distributions: Distributions) -> None:
    assert package_files() - distributions.wheel_names() == set()


def test_the_sdist_lacks_no_file_of_the_package(distributions: Distributions) -> None:
    assert package_files() - distributions.sdist_names() == set()


@pytest.mark.parametrize(
    "kind",
    [
        r"oauth_connect/py\.typed",
        r"oauth_connect/templates/oauth_connect/.+\.html",
        r"oauth_connect/static/oauth_connect/.+",
        r"oauth_connect/presets/.+\.toml",
        r"oauth_connect/locale/.+/LC_MESSAGES/django\.(po|mo)",
        r"oauth_connect/migrations/0001_initial\.py",
    ],
)
def test_both_contain_the_files_that_are_not_code(distributions: Distributions, kind: str) -> None:
    assert any(re.fullmatch(kind, name) for name in distributions.wheel_names())
    assert any(re.fullmatch(kind, name) for name in distributions.sdist_names())


def test_the_wheel_installs_only_the_package(distributions: Distributions) -> None:
    tops = {name.partition("/")[0] for name in distributions.wheel_names()}
    (metadata,) = tops - {"oauth_connect"}
    assert re.fullmatch(r"django_oauth_connect-.+\.dist-info", metadata)


def test_the_sdist_can_run_its_own_tests(distributions: Distributions) -> None:
    needed = {"setup.cfg", "pyproject.toml", "manage.py", "tests/settings.py", "LICENSE"}
    assert needed <= distributions.sdist_names()


def test_an_empty_environment_imports_the_wheel(site: Site) -> None:
    where = site.run("-c", "import oauth_connect; print(oauth_connect.__file__)")
    assert Path(where).is_relative_to(site.folder / "environment")


@pytest.mark.parametrize("command", ["migrate", "check --fail-level WARNING", "makemigrations --check"])
def test_a_site_outside_the_checkout_runs(site: Site, command: str) -> None:
    site.run("-W", "error", "-m", "django", *command.split(), "--settings", "site_settings")
