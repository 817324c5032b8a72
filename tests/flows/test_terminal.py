"""Ctrl-C at the end of a login at a terminal."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from oauth_connect import signals
from oauth_connect.flows import terminal
from oauth_connect.flows.terminal import BrowserLogin, DeviceLogin, UserConnectionTarget
from oauth_connect.models import Connection
from oauth_connect.models.lifecycle import connect
from tests.servers.scripted import Answer

pytestmark = pytest.mark.django_db(transaction=True)

BEGUN = {"device_code": "d", "user_code": "u", "verification_uri": "https://id.test/", "expires_in": 60}


@pytest.fixture
def log_in(scripted, scripted_entry, configure, issues, user) -> Any:
    """Log in where each token is revoked by itself, and be stopped on the way."""
    way = {"device_authorization_endpoint": f"{scripted.url}/device", "identity": {"source": "none"}}
    configure(PROVIDERS={"scripted": {**scripted_entry, **way, "revocation": {"effect": "token"}}})
    scripted.on("/device", Answer(body={**BEGUN, "interval": 1}))
    scripted.on("/revoke", Answer(200))

    def run() -> None:
        with pytest.raises(KeyboardInterrupt):
            DeviceLogin("scripted", UserConnectionTarget(user)).run(lambda authorization: None)

    return run


def stop(*args: Any, **options: Any) -> None:
    raise KeyboardInterrupt


def revoked(scripted: Any) -> list[str]:
    return [request.form["token"] for request in scripted.asked("/revoke")]


@pytest.mark.parametrize("when", ["told", "told of a missing refresh token"])
def test_a_token_that_is_stored_is_not_revoked(log_in, scripted, canary, monkeypatch, when):
    if when == "told":
        signals.connected.connect(stop)
    else:
        monkeypatch.setattr(terminal, "warn_if_no_refresh_token", stop)
    try:
        log_in()
    finally:
        signals.connected.disconnect(stop)

    assert revoked(scripted) == []
    assert Connection.objects.get().access_token() == f"{canary}-access"


@pytest.mark.parametrize("known", [False, True], ids=["first", "again"])
def test_a_token_that_is_not_stored_is_revoked(log_in, scripted, canary, make_connection, monkeypatch, known):
    """Although the same account has a token from before."""
    if known:
        make_connection(account_id="")
    monkeypatch.setattr(connect, "store", stop)
    log_in()

    assert revoked(scripted) == [f"{canary}-refresh"]
    assert Connection.objects.count() == known


@pytest.mark.parametrize(
    ("kind", "allowed", "missing"),
    [
        (DeviceLogin, "authorization_code", "grant-type:device_code"),
        (BrowserLogin, "client_credentials", "authorization_code"),
    ],
)
def test_a_grant_that_the_entry_excludes_is_not_begun(
    scripted, scripted_entry, configure, user, kind, allowed, missing
):
    endpoint = {"device_authorization_endpoint": f"{scripted.url}/device"}
    configure(PROVIDERS={"scripted": {**scripted_entry, **endpoint, "grant_types": [allowed]}})
    with pytest.raises(ImproperlyConfigured, match=rf"scripted\.grant_types: without .*{missing}"):
        kind("scripted", UserConnectionTarget(user)).run(lambda authorization: None)
    assert scripted.requests == []


def test_what_no_key_opens_is_another(log_in, scripted, canary, make_connection, configure, monkeypatch):
    make_connection(account_id="")
    configure(KEYS=["bmV3".ljust(43, "A") + "="])
    monkeypatch.setattr(connect, "store", stop)
    log_in()

    assert revoked(scripted) == [f"{canary}-refresh"]
