"""A logout ends the tokens of every login, and what a refresh brought after another login."""

from __future__ import annotations

import pytest

from oauth_connect.stores import keyring as store
from oauth_connect.stores.keyring.store import MAX_KEPT
from tests.servers.scripted import Answer
from tests.support.tokens import FRESH

pytestmark = pytest.mark.usefixtures("keyring")


@pytest.fixture
def revoked(scripted):
    scripted.on("/revoke", Answer(200))
    return lambda: [request.form["token"] for request in scripted.asked("/revoke")]


def test_a_logout_revokes_the_tokens_of_every_login(provider, token, revoked):
    for name in ("first", "second", "third"):
        store.keep(provider, token(name, access_token=f"access-{name}"))
    assert store.forget(provider) == "revoked"
    assert revoked() == ["third", "first", "second"]
    assert store.forget(provider) == "absent"


def test_a_few_tokens_of_former_logins_are_kept(provider, token, revoked):
    for number in range(MAX_KEPT + 3):
        store.keep(provider, token(f"login-{number}"))
    store.forget(provider)
    assert len(revoked()) == MAX_KEPT + 1


def test_the_same_refresh_token_is_revoked_once(provider, token, revoked):
    store.keep(provider, token("same"))
    store.keep(provider, token("same", access_token="access-1"))
    store.forget(provider)
    assert revoked() == ["same"]


def test_a_login_during_a_refresh_leaves_no_token_behind(provider, token, revoked, scripted, monkeypatch):
    store.keep(provider, token("first", age=7200))
    save = store.KeyringStore.save

    def log_in_first(*args, **options):
        monkeypatch.setattr(store.KeyringStore, "save", save)
        store.keep(provider, token("second", access_token="access-second"))
        return save(*args, **options)

    monkeypatch.setattr(store.KeyringStore, "save", log_in_first)
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/api/me", Answer(body={}))
    assert store.session_for(provider).get("me").status_code == 200
    assert store.KeyringStore(provider).read().token.refresh_token == "second"

    assert store.forget(provider) == "revoked"
    assert sorted(revoked()) == ["first", "refresh-1", "second"]


def test_a_provider_that_does_not_answer_loses_no_token(provider, token, scripted, revoked):
    store.keep(provider, token("first"))
    store.keep(provider, token("second"))
    scripted.on("/revoke", Answer(503))
    assert store.forget(provider) == "pending"
    scripted.on("/revoke", Answer(200))
    assert store.forget(provider) == "revoked"
    assert sorted(set(revoked())) == ["first", "second"]


def test_a_logout_that_is_pending_does_not_lose_its_token_to_the_next_login(
    provider, token, scripted, revoked
):
    store.keep(provider, token("first"))
    scripted.on("/revoke", Answer(503))
    store.forget(provider)
    store.keep(provider, token("second"))
    scripted.on("/revoke", Answer(200))
    store.forget(provider)
    assert sorted(set(revoked())) == ["first", "second"]
