"""The distributions are complete, and the wheel works in an environment with nothing else."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "oauth_connect"
NOT_SOURCE = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")

SITE_SETTINGS = """
SECRET_KEY = "of a site"
USE_TZ = True
ROOT_URLCONF = "site_urls"
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


@dataclass(frozen=True)
class Distributions:
    wheel: Path
    sdist: Path

    def wheel_names(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    def sdist_names(self) -> set[str]:
        with tarfile.open(self.sdist) as archive:
            return {name.partition("/")[2] for name in archive.getnames()}


@dataclass(frozen=True)
class Site:
    """A folder outside the checkout, and a Python in which the wheel is installed."""

    folder: Path
    python: Path

    def run(self, *arguments: str) -> str:
        return run([self.python, *arguments], cwd=self.folder)


def run(command: Sequence[str | Path], cwd: Path) -> str:
    """Run a command that knows neither the checkout nor the suite's settings."""
    hidden = {"DJANGO_SETTINGS_MODULE", "PYTHONPATH"}
    environ = {key: value for key, value in os.environ.items() if key not in hidden}
    finished = subprocess.run(
        command, cwd=cwd, env=environ, check=False, capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The sdist, and the wheel built from it."""
    folder = tmp_path_factory.mktemp("distributions")
    # A copy, so that files of an earlier build in the checkout are left out.
    source = shutil.copytree(ROOT, folder / "source", ignore=NOT_SOURCE)
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source], cwd=folder)
    return Distributions(*folder.glob("*.whl"), *folder.glob("*.tar.gz"))


@pytest.fixture(scope="session")
def site(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    environment = folder / "environment"
    venv.create(environment, with_pip=True, symlinks=os.name != "nt")
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
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
