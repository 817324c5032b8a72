"""A token in small parts: whatever is cut off between two of them, a whole token is still there."""

from __future__ import annotations

import json
import signal

import pytest

from oauth_connect.errors import KeyringUnavailable
from oauth_connect.protocol.provider import Provider
from oauth_connect.stores import keyring as store
from oauth_connect.stores.keyring.backend import Keyring
from oauth_connect.stores.keyring.entry import Entry
from tests.stores.keyring.script import Script
from tests.support.keyrings import DIES_AT

LONG = "r" * 5000


@pytest.fixture
def entry_of(keyring):
    return Entry(Keyring(keyring), "oauth_connect:test")


def test_a_long_payload_survives_a_keyring_with_a_small_limit(entry_of):
    head = entry_of.replace(None, {"version": 1}, {"token": LONG, "name": "ä\u202e\U0001f511"})
    assert head.parts == 5
    found = entry_of.head()
    assert found == head
    assert entry_of.payload(found) == {"token": LONG, "name": "ä\u202e\U0001f511"}


def test_nothing_is_left_behind_by_changes_and_by_the_end(keyring, entry_of):
    head = None
    for length in (5000, 100, 3000, 10):
        head = entry_of.replace(head, {}, {"token": "x" * length})
        head = entry_of.change(head, {"version": length})
    assert entry_of.head().state == {"version": 10}
    assert len(keyring.entries) == 2 + 1
    entry_of.remove()
    assert keyring.entries == {}
    assert entry_of.head() is None


def test_a_payload_that_is_not_whole_is_never_taken_for_one(keyring, entry_of):
    head = entry_of.replace(None, {}, {"token": LONG})
    keyring.delete_password("oauth_connect:test:token-0-3", "oauth_connect")
    with pytest.raises(KeyringUnavailable, match="Log in again"):
        entry_of.payload(head)


def test_what_is_no_entry_is_none(keyring, entry_of):
    keyring.set_password("oauth_connect:test:state-0", "oauth_connect", '{"not": "ours"}')
    keyring.set_password("oauth_connect:test:state-1", "oauth_connect", "[1, 2]")
    assert entry_of.head() is None


def parts_of(keyring, provider):
    """Return in how many parts the payload of the present entry is stored."""
    return Entry(Keyring(keyring), store.KeyringStore(provider).name).head().parts


@pytest.mark.parametrize("before", ["", "r" * 4000])
def test_kill_9_between_any_two_writes_leaves_the_previous_token_or_the_new_one(
    keyring, entry, token, monkeypatch, before
):
    provider = Provider.from_mapping("rotating", entry)
    if before:
        for old in ("even-older-0", before):
            store.keep(provider, token(old))
    killed, number = 0, 0
    seen = set()
    while killed == number:
        number += 1
        at_first = keyring.entries
        monkeypatch.setenv(DIES_AT, str(number))
        status = Script(entry, "keep", refresh_token=LONG).go().status()
        monkeypatch.delenv(DIES_AT)
        killed += status == -signal.SIGKILL
        assert status in (0, -signal.SIGKILL)
        row = store.KeyringStore(provider).read()
        found = row.token.refresh_token if row else ""
        assert found in (before, LONG), f"killed before write {number}"
        seen.add(found)
        # The next login, from whatever was left behind, is whole again and leaves nothing over.
        store.keep(provider, token("after-0"))
        assert store.KeyringStore(provider).read().token.refresh_token == "after-0"
        assert len(keyring.entries) <= 2 + parts_of(keyring, provider)
        keyring.path.write_text(json.dumps(at_first), "utf-8")
    assert killed >= 6
    assert seen == {before, LONG}
