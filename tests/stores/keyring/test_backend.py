"""Which keyrings are used, and that the others are refused with what to do: never a file instead."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keyrings.alt.file
import keyrings.alt.multi
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import chainer, fail, null

from oauth_connect.errors import KeyringUnavailable
from oauth_connect.stores import keyring
from oauth_connect.stores.keyring import backend as backends
from oauth_connect.stores.keyring import lock as locks
from oauth_connect.stores.keyring.backend import PART_LENGTH, Keyring
from tests.support.keyrings import LIMIT, ForgetfulKeyring, LockedKeyring, SmallKeyring

ROOT = Path(__file__).resolve().parents[3]


class Cheap(KeyringBackend):
    """Somebody's own, in plain text."""

    priority = 0.0

    get_password = set_password = delete_password = None


class PlaintextOfMine(Cheap):
    pass


def chain(*members):
    class Chain(chainer.ChainerBackend):
        backends = list(members)

    return Chain()


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (fail.Keyring(), "this machine has no keyring"),
        (null.Keyring(), "stores nothing"),
        (keyrings.alt.file.PlaintextKeyring(), "plain text"),
        (PlaintextOfMine(), "plain text"),
        (keyrings.alt.multi.MultipartKeyringWrapper(keyrings.alt.file.PlaintextKeyring()), "plain text"),
        (chain(keyrings.alt.file.PlaintextKeyring(), null.Keyring()), "plain text"),
        (chain(), "this machine has no keyring"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, KeyringBackend) else None,
)
def test_what_keeps_nothing_or_in_plain_text_is_refused_with_guidance(use, provider, token, refused, why):
    use(refused)
    for call in (
        lambda: keyring.session_for(provider),
        lambda: keyring.keep(provider, token()),
        lambda: keyring.forget(provider),
    ):
        with pytest.raises(KeyringUnavailable, match=why) as told:
            call()
        assert "gnome-keyring" in str(told.value)


def test_of_a_chain_the_first_that_may_be_used_is_used_itself(use, small):
    use(chain(keyrings.alt.file.PlaintextKeyring(), small))
    assert keyring.usable_backend() is small


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(backends, "library", None)
    with pytest.raises(KeyringUnavailable, match=r"django-oauth-connect\[keyring\]"):
        keyring.usable_backend()


@pytest.mark.parametrize("package", ["filelock", "platformdirs"])
def test_without_a_lock_nothing_is_read(small, provider, monkeypatch, package):
    monkeypatch.setattr(locks, package, None)
    with pytest.raises(KeyringUnavailable, match=r"django-oauth-connect\[keyring\]"):
        keyring.session_for(provider)


def test_a_locked_keyring_is_refused_and_its_words_are_not_repeated(use, provider, token, canary):
    use(LockedKeyring())
    with pytest.raises(KeyringUnavailable, match=r"is locked, or it is not set up yet\. Unlock") as told:
        keyring.keep(provider, token(canary))
    assert told.value.__cause__ is None
    assert told.value.__context__ is None
    assert canary not in str(told.value)


def test_any_other_failure_is_reported_by_its_class(use, provider):
    class Broken(LockedKeyring):
        def get_password(self, service, username):
            raise OSError("D-Bus went away with canary")

    use(Broken())
    with pytest.raises(KeyringUnavailable, match=r"\(OSError\)") as told:
        keyring.session_for(provider)
    assert "canary" not in str(told.value)


def test_a_keyring_that_forgets_is_found_out_before_a_token_is_spent(home):
    with pytest.raises(KeyringUnavailable, match="did not store"):
        Keyring(ForgetfulKeyring(home / "nothing")).check_writable("probe")


def test_a_part_fits_into_the_smallest_keyring(home):
    assert len(("x" * PART_LENGTH).encode("utf-16-le")) <= LIMIT
    found = Keyring(SmallKeyring(home / "keyring.json"))
    found.check_writable("probe")
    assert found.get("probe") is None


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have a keyring without a desktop")
def test_with_a_file_package_installed_and_no_desktop_what_keyring_chooses_is_refused():
    """By itself it takes the file of keyrings.alt then: base64, for anybody to read."""
    desktop = ("DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "PYTHON_KEYRING_BACKEND")
    environment = {name: value for name, value in os.environ.items() if name not in desktop}
    environment["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/nonexistent"
    chosen = "from oauth_connect.stores import keyring; keyring.usable_backend()"
    finished = subprocess.run(
        [sys.executable, "-c", chosen],
        cwd=ROOT,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "KeyringUnavailable: No usable keyring: the keyring is a file in plain text" in finished.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_the_folder_of_locks_is_the_users_own(small, provider, token, home):
    folder = home / "state" / "oauth_connect"
    folder.mkdir(parents=True, mode=0o755)
    folder.chmod(0o755)
    keyring.keep(provider, token())
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [file.stat().st_size for file in folder.iterdir()] == [0]
    link = home / "elsewhere"
    folder.rename(link)
    folder.symlink_to(link)
    with pytest.raises(KeyringUnavailable, match="not a folder of this user"):
        keyring.keep(provider, token())


def test_a_lock_that_is_held_for_too_long_is_reported(small, provider, monkeypatch, calls_at_once):
    monkeypatch.setattr(locks, "LOCK_TIMEOUT", 0.1)

    def other():
        with pytest.raises(KeyringUnavailable, match="Another process has held"):
            keyring.session_for(provider)

    with locks.exclusively(keyring.KeyringStore(provider).name):
        assert calls_at_once(1, other) == [None]
