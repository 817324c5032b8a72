"""``python -m oauth_connect.testing.server``: it prints settings that work, and ends when it is asked to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from oauth_connect.errors import ProviderUnavailable, ReauthorizationRequired
from oauth_connect.models import Connection
from tests.support.visitor import Visitor, query_of
from tests.testing.oauth_client import TIMEOUT

pytestmark = [pytest.mark.process, pytest.mark.once]

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "oauth_connect.testing.server"]

Start = Callable[..., tuple[subprocess.Popen[str], str]]


def environment() -> dict[str, str]:
    """Return an environment without the settings of a site."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DJANGO_")}


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the command. Return its process, and what it printed once it serves."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [*COMMAND, "--port", "0", *arguments],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if line == "}\n":
                return process, "".join(printed)
        raise AssertionError(process.communicate()[1])

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def pasted(printed: str) -> dict[str, Any]:
    """Return PROVIDERS of a site that has one, after the printed lines were pasted."""
    code = printed[printed.index("OAUTH_CONNECT.") :]
    site: dict[str, Any] = {"OAUTH_CONNECT": {"PROVIDERS": {"its-own": {}}}}
    exec(code, site)  # noqa: S102
    providers: dict[str, Any] = site["OAUTH_CONNECT"]["PROVIDERS"]
    assert providers.pop("its-own") == {}, "the site's own provider is still there"
    empty: dict[str, Any] = {"OAUTH_CONNECT": {}}
    exec(code, empty)  # noqa: S102
    assert empty["OAUTH_CONNECT"]["PROVIDERS"] == providers
    return providers


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=2 * TIMEOUT,
        check=False,
    )


@pytest.mark.django_db
@pytest.mark.parametrize("preset", [None, "github", "google", "slack"])
def test_the_printed_settings_connect_call_and_refresh(
    start: Start, configure: Callable[..., None], visitor: Visitor, preset: str | None
) -> None:
    options = ["--preset", preset] if preset else []
    _, printed = start(*options, "--lifetime", "3600", "--api", "/user", '{"login": "octocat"}')
    providers = pasted(printed)
    [slug] = providers
    configure(PROVIDERS=providers)
    page = requests.get(visitor.start(slug), timeout=TIMEOUT)
    landed: Any = visitor.come_back(slug, **consent(page))
    assert landed.status_code == 302, landed.content
    connection = Connection.objects.get()
    assert connection.session().get("user").json() == {"login": "octocat"}
    connection.refresh()
    assert connection.session().get("user").status_code == 200
    connection.disconnect()


def test_the_page_shows_the_settings_that_are_printed(start: Start) -> None:
    page = (ROOT / "docs" / "fake-server.md").read_text("utf-8")
    shown = page[page.index("OAUTH_CONNECT.") : page.index("}\n```") + 2]
    _, printed = start("--preset", "github")
    port = printed.partition("http://127.0.0.1:")[2].partition(" ")[0]
    assert shown == printed[printed.index("OAUTH_CONNECT.") :].replace(f":{port}/", ":9000/")


def press(url: str, action: str, grant: str = "") -> None:
    """Press a button of the console."""
    console = requests.get(url, timeout=TIMEOUT).text
    form_token = console.partition('name="form_token" value="')[2].partition('"')[0]
    form = {"form_token": form_token, "action": action, "grant": grant}
    requests.post(f"{url}/console", data=form, timeout=TIMEOUT).raise_for_status()


@pytest.mark.django_db
def test_a_site_meets_what_the_buttons_of_the_console_do(
    start: Start, configure: Callable[..., None], visitor: Visitor
) -> None:
    _, printed = start("--lifetime", "3600", "--api", "/user", "{}")
    providers = pasted(printed)
    url = providers["fake"]["issuer"]
    configure(PROVIDERS=providers)
    connect(visitor)
    connection = Connection.objects.get()
    first = connection.token.access_token
    press(url, "expire", "1")
    assert connection.session().get("user").status_code == 200
    assert connection.token.access_token != first
    press(url, "down")
    with pytest.raises(ProviderUnavailable):
        connection.refresh()
    assert connection.session().get("user").status_code == 503
    press(url, "up")
    assert connection.session().get("user").status_code == 200
    connect(visitor)  # the API refused the first grant's token within this minute
    connection = Connection.objects.get()
    press(url, "end", "2")
    with pytest.raises(ReauthorizationRequired):
        connection.session().get("user")


def connect(visitor: Visitor) -> None:
    visitor.come_back("fake", **consent(requests.get(visitor.start("fake"), timeout=TIMEOUT)))


def consent(page: requests.Response) -> dict[str, str]:
    """Press the button of the first account, with all scopes."""
    number = page.text.partition('name="request" value="')[2].partition('"')[0]
    scopes = [part.partition('"')[0] for part in page.text.split('type="checkbox" name="')[1:]]
    values = [
        part.partition('value="')[2].partition('"')[0] for part in page.text.split('type="checkbox"')[1:]
    ]
    form = {"request": number, "account": "octocat", **dict(zip(scopes, values, strict=True))}
    url = page.url.partition("?")[0]
    answer = requests.post(url, data=form, allow_redirects=False, timeout=TIMEOUT)
    return query_of(answer.headers["Location"])


def test_its_accounts_are_on_the_page(start: Start) -> None:
    _, printed = start("--account", "ada", "--account", "grace")
    assert "Its accounts: ada, grace." in printed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_without_a_traceback_when_it_is_asked_to(start: Start, number: signal.Signals) -> None:
    process, _ = start()
    process.send_signal(number)
    out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, err) == (0, "")
    assert "The fake provider has ended." in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "x"], "Argument --port: 'x' is not a whole number from 0 to 65535. See --help."),
        (["--port", "70000"], "Argument --port: '70000' is not a whole number from 0 to 65535. See --help."),
        (
            ["--lifetime", "0"],
            "Argument --lifetime: '0' is not a whole number from 1 to 315360000. See --help.",
        ),
        (["--account", "ada", "--account", "ada"], "--account: accounts: give each account a name"),
        (["--nothing"], "Unrecognized arguments: --nothing. See --help."),
        (["--preset", "gihub"], "--preset: there is no preset 'gihub'; did you mean 'github'?"),
        (
            ["--preset", "github", "--preset", "slack"],
            "--preset: one for each fake provider. Start another one with --port 0. See --help.",
        ),
        (["--api", "/user", "{"], "--api /user: Expecting property name enclosed in double quotes"),
        (
            ["--api", "https://x/user", "{}"],
            "--api https://x/user: path: 'https://x/user' must be a path below",
        ),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], message: str) -> None:
    done = run("--port", "0", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("--port", str(port))
    expected = f"Port {port} is in use. Choose another one with --port, or any free one with --port 0.\n"
    assert (done.returncode, done.stderr) == (2, expected)


def test_it_needs_no_django() -> None:
    imported = "import sys, oauth_connect.testing.server.__main__ as m; sys.exit('django' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", imported], cwd=ROOT, env=environment(), timeout=TIMEOUT, check=False
    )
    assert done.returncode == 0


def test_it_ends_without_a_traceback_after_the_reader_of_its_pipe(start: Start) -> None:
    process, _ = start()
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == 0
    assert process.stderr.read() == ""


def test_a_name_that_the_terminal_cannot_show_is_written_escaped(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    _, printed = start("--account", "\N{GREEK SMALL LETTER OMEGA}")
    assert r"Its accounts: \u03c9." in printed
