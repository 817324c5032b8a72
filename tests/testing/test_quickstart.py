"""The README leads from ``startproject`` to a call that refreshes, offline. Its own blocks are run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from oauth_connect.testing.server.__main__ import PORT
from tests.support.browser import Browser
from tests.support.distributions import ROOT, Distributions, foreign_environment, wheel_with_our_packages
from tests.support.waiting import eventually

pytestmark = pytest.mark.process

README = (ROOT / "README.md").read_text("utf-8")
QUICKSTART, WITH_GITHUB = "Try it", "Then with GitHub"
FAKE_PROVIDER, SITE = "python -m oauth_connect.testing.server", "python manage.py runserver"
# The README's ports may be in use here, no token expires on a slow machine, and no person enters a password.
ADDED = {
    FAKE_PROVIDER: " --port 0 --lifetime 3600",
    SITE: " 127.0.0.1:0 --noreload",
    "python manage.py createsuperuser": " --noinput",
}
ADMIN = {"USERNAME": "ada", "EMAIL": "ada@example.com", "PASSWORD": "a password of ada"}
# Nothing listens there, so a request that leaves the machine fails.
OFFLINE = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}


@dataclass(frozen=True)
class Block:
    """A block of code. ``file``: the Python file that the text before it names."""

    language: str
    text: str
    file: str


def section(heading: str) -> str:
    return README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def blocks(text: str) -> Iterator[Block]:
    file = ""
    for prose, language, code in re.findall(
        r"(.*?)^ *```(\w*)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE
    ):
        file = [file, *re.findall(r"`([\w/]+\.py)`", prose)][-1]
        yield Block(language, dedent(code), file)


def address(path: str) -> str:
    """Return the address with this path that the quickstart names."""
    (found,) = re.findall(rf"<(http://127\.0\.0\.1:\d+{path})>", section(QUICKSTART))
    return str(found)


class Project:
    """The project of the README. Its processes know neither the checkout nor a network."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder = folder
        self.settings_to_paste = ""
        self.started: dict[str, subprocess.Popen[str]] = {}
        self.urls: dict[str, str] = {}
        self._environment = {
            **foreign_environment(),
            **OFFLINE,
            **{f"DJANGO_SUPERUSER_{name}": value for name, value in ADMIN.items()},
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
        }

    def follow(self, block: Block) -> None:
        if block.language == "python":
            with (self.folder / block.file).open("a", encoding="utf-8") as file:
                file.write(f"\n{block.text}\n{self.settings_to_paste if 'settings' in block.file else ''}")
        else:
            for line in block.text.splitlines():
                self.type(line)

    def type(self, line: str) -> None:
        """Do what a person does who types this line."""
        command = next((known for known in ADDED if line.startswith(known)), "")
        if line.startswith("pip install "):
            return  # of the wheel, which is there
        if line.startswith("cd "):
            self.folder /= line.removeprefix("cd ")
        elif command in (FAKE_PROVIDER, SITE):
            self.start(command, line + ADDED[command])
        else:
            self.run(line.replace("django-admin", "python -m django") + ADDED.get(command, ""))

    def run(self, line: str) -> str:
        finished = subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=self.folder,
            env=self._environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout

    def start(self, command: str, line: str) -> None:
        log = self.folder / f"{len(self.started)}.log"
        with log.open("w") as output:
            self.started[command] = process = subprocess.Popen(
                shlex.split(line),
                cwd=self.folder,
                env=self._environment,
                stdout=output,
                stderr=output,
                text=True,
            )
        last = "\n}\n" if command == FAKE_PROVIDER else "Quit the server"

        def said() -> str:
            text = log.read_text("utf-8")
            assert process.poll() is None, text
            return text if last in text else ""

        text = eventually(said, lambda: f"{command}: {log.read_text('utf-8')}")
        self.urls[command] = re.search(r"http://127\.0\.0\.1:\d+", text)[0]  # type: ignore[index]
        self.settings_to_paste = self.settings_to_paste or text[text.index("OAUTH_CONNECT.") :]

    def at(self, readme: str) -> str:
        """Return where an address of the README is in this run."""
        command = SITE if ":8000" in readme else FAKE_PROVIDER
        return re.sub(r"http://127\.0\.0\.1:\d+", self.urls[command], readme)

    def end(self) -> None:
        for process in self.started.values():
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def project(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The project after the last block of the quickstart."""
    folder = tmp_path_factory.mktemp("quickstart")
    project = Project(folder, wheel_with_our_packages(distributions, folder / "environment"))
    try:
        for block in blocks(section(QUICKSTART)):
            project.follow(block)
        yield project
    finally:
        project.end()


def press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name).first.click()


def see(page: Any, text: str) -> None:
    """Wait until the page shows a text."""
    page.get_by_text(text).first.wait_for()


def log_in(page: Any) -> None:
    page.get_by_label("Username").fill(ADMIN["USERNAME"])
    page.get_by_label("Password").fill(ADMIN["PASSWORD"])
    press(page, "Log in")


def connect(page: Any) -> None:
    press(page, "Continue to GitHub")
    press(page, "Continue as octocat")


def test_the_quickstart_connects_calls_connects_again_and_refreshes(
    project: Project, browser: Browser
) -> None:
    view, console = project.at(address("/repositories/")), project.at(address("/"))

    def walk(page: Any) -> None:
        page.goto(view)
        log_in(page)
        connect(page)
        see(page, "octocat/hello")

        page.goto(console)
        press(page, "End the grant")
        see(page, "No account is connected yet")
        page.goto(view)
        see(page, "The account octocat must be connected again")
        connect(page)
        see(page, "octocat/hello")

        page.goto(console)
        press(page, "Expire the access token")
        see(page, "expired")
        page.goto(view)
        see(page, "octocat/hello")
        page.goto(console)
        see(page, "expires in")

        page.goto(project.at(address("/connections/")))
        see(page, "octocat")

    tab = browser.open_tab()
    try:
        tab(walk)
    finally:
        tab.close()


def test_the_project_of_the_quickstart_passes_the_checks(project: Project) -> None:
    assert "no issues" in project.run("python manage.py check --fail-level WARNING")
    assert "checks: OK" in project.run("python manage.py oauth_doctor")


def test_the_console_is_where_the_command_puts_it() -> None:
    assert address("/") == f"http://127.0.0.1:{PORT}/"


def test_the_settings_for_github_replace_those_of_the_fake_provider(project: Project) -> None:
    (block,) = blocks(section(WITH_GITHUB))
    site = project.folder / "mysite"
    settings = (site / "settings.py").read_text("utf-8").replace(project.settings_to_paste, block.text)
    (site / "with_github.py").write_text(settings, encoding="utf-8")
    assert "no issues" in project.run("python manage.py check --settings mysite.with_github")
