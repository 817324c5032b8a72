"""A real keyring: gnome-keyring, on a D-Bus of the test's own, unlocked and locked."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import secretstorage
from keyring.backends import SecretService

from oauth_connect.flows import session_for_keyring
from oauth_connect.protocol.provider import Provider
from oauth_connect.stores import keyring
from tests.management.conftest import finished
from tests.management.test_oauth_login import shown
from tests.stores.keyring.script import Script
from tests.support.person import Person
from tests.support.services import SECRET_SERVICE
from tests.support.tokens import EXPIRED
from tests.support.waiting import eventually

LONG = "long" * 1500
# A bus that starts nothing by itself: a keyring that it started, asked before ours is there, is a locked one.
BUS = """<busconfig>
  <type>session</type>
  <listen>unix:tmpdir=/tmp</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""
DEFAULT_COLLECTION = "/org/freedesktop/secrets/aliases/default"
pytestmark = pytest.mark.skipif(bool(SECRET_SERVICE.absence), reason=SECRET_SERVICE.absence)


@contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture
def desktop(
    tmp_path_factory: pytest.TempPathFactory, use: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """Begin a desktop session: a bus, and its keyring, unlocked with a password or not."""
    home = tmp_path_factory.mktemp("desktop")
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        folder = home / name
        folder.mkdir(mode=0o700)
        monkeypatch.setenv(name, str(folder))
    monkeypatch.delenv("DISPLAY", raising=False)
    configuration = home / "bus.conf"
    configuration.write_text(BUS, "utf-8")
    with ExitStack() as stack:

        def begin(*, unlocked: bool) -> None:
            bus = subprocess.Popen(
                ["dbus-daemon", f"--config-file={configuration}", "--nofork", "--print-address=1"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            stack.enter_context(stopped(bus))
            assert bus.stdout is not None
            monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus.stdout.readline().decode().strip())
            start_keyring(stack, unlocked=unlocked)
            use(SecretService.Keyring())

        yield begin


def start_keyring(stack: ExitStack, *, unlocked: bool) -> None:
    daemon = subprocess.Popen(
        [SECRET_SERVICE.url, "--foreground", "--components=secrets", *(["--unlock"] if unlocked else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    stack.enter_context(stopped(daemon))
    assert daemon.stdin is not None
    daemon.stdin.write(b"a password" if unlocked else b"")
    daemon.stdin.close()
    daemon.stdin = None
    eventually(is_unlocked if unlocked else answers, "a keyring that answers, unlocked where it is to be")


def answers() -> bool:
    try:
        return bool(SecretService.Keyring.priority)
    except RuntimeError:
        return False


def is_unlocked() -> bool:
    """Whether the daemon, which answers before that, has made its collection and opened it."""
    if not answers():
        return False
    with closing(secretstorage.dbus_init()) as connection:
        try:
            # Asking for the default one would make it where it is missing, behind a prompt.
            return not secretstorage.Collection(connection, DEFAULT_COLLECTION).is_locked()
        except secretstorage.ItemNotFoundException:
            return False


def test_tokens_live_in_the_desktops_keyring_and_scripts_share_them(desktop, entry, rotating, token):
    desktop(unlocked=True)
    provider = Provider.from_mapping("rotating", entry)
    keyring.keep(provider, token(f"{LONG}-0", age=EXPIRED), account="ada")
    scripts = [Script(entry, threads=2) for _ in range(3)]
    for script in scripts:
        script.go()
    assert [result for script in scripts for result in script.results()] == [[200, False]] * 6
    assert rotating.spent == {f"{LONG}-0": 1}
    row = keyring.KeyringStore(provider).read()
    assert row is not None
    assert row.token is not None
    assert row.token.refresh_token == f"{LONG}-1"
    assert not files_with(LONG)


@pytest.mark.django_db(transaction=True)
@pytest.mark.slow  # and Codeyard has a device flow with oauthlib 3 only, which not every quick run has
def test_who_logs_in_at_a_terminal_has_a_token_in_the_desktops_keyring_until_the_logout(
    desktop, codeyard, configure, start
):
    configure(PROVIDERS={"codeyard": codeyard.device_entry()})
    desktop(unlocked=True)
    login = start("oauth_login", "codeyard", "--store", "keyring")
    Person().answer_device(*shown(login))
    run = finished(login)
    assert (run.status, run.err) == (0, "")

    http = session_for_keyring("codeyard")
    assert http.get("user").json()["login"] == "ada"
    token = http.token_auth.source.current()
    assert items()
    assert not files_with(token.refresh_token)
    assert not files_with(token.access_token)

    run = finished(start("oauth_logout", "codeyard", "--store", "keyring"))
    assert (run.status, run.err) == (0, "")
    assert items() == []
    assert codeyard.stats["revocations"] == 1


def items() -> list[str]:
    """What the default collection holds, by its labels."""
    with closing(secretstorage.dbus_init()) as connection:
        collection = secretstorage.Collection(connection, DEFAULT_COLLECTION)
        return [item.get_label() for item in collection.get_all_items()]


def test_a_locked_keyring_is_refused_and_never_replaced_by_a_file(desktop, entry):
    desktop(unlocked=False)
    # In a process of its own: after a refusal the back end leaves its socket to the garbage collector.
    (told,) = Script(entry, "keep", refresh_token=LONG).go().results()
    assert told.startswith("The keyring is locked, or it is not set up yet. Unlock the keyring")
    assert not files_with(LONG)


def files_with(text: str) -> list[Path]:
    """The files of the desktop's user in which these words can be read."""
    folders = [Path(os.environ[name]) for name in os.environ if name.startswith("XDG_")]
    found = [file for folder in [*folders, Path.home()] for file in folder.rglob("*") if file.is_file()]
    return [file for file in found if text.encode() in file.read_bytes()]


def test_the_programs_are_those_that_the_services_name():
    assert shutil.which(SECRET_SERVICE.url)
