"""Logging out of what is in the keyring of this machine, as a site's settings know it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from oauth_connect.conf import conf
from oauth_connect.errors import ReauthorizationRequired
from oauth_connect.flows import forget_in_keyring, session_for_keyring
from oauth_connect.protocol.token import Token
from oauth_connect.stores import keyring
from tests.servers.scripted import Answer
from tests.support.discovery import WELL_KNOWN, document_of, forget_discovery


@pytest.fixture
def discovered(scripted, configure, monkeypatch) -> dict[str, Any]:
    """A provider of which only its issuer is in the settings; the document it answers with."""
    forget_discovery(monkeypatch)
    entry = {"issuer": scripted.url, "client_id": "client", "client_secret": "secret"}
    configure(PROVIDERS={"acme": {**entry, "api_base_url": f"{scripted.url}/api/"}})
    document = document_of(scripted.url)
    scripted.on(WELL_KNOWN, Answer(body=document))
    return document


def log_in() -> None:
    now = datetime.now(UTC)
    token = Token("access-0", now, refresh_token="refresh-0", expires_at=now + timedelta(hours=1))
    keyring.keep(conf.declared_provider("acme"), token, resolved=conf.provider("acme"))


def test_a_logout_while_nothing_can_be_discovered_ends_local_use_and_can_be_repeated(
    small, discovered, scripted, monkeypatch
):
    log_in()
    scripted.on("/api/me", Answer(body={}))
    scripted.on("/revoke", Answer(200))
    scripted.on(WELL_KNOWN, Answer(503))
    assert session_for_keyring("acme").get("me").ok
    forget_discovery(monkeypatch)

    assert forget_in_keyring("acme") == "pending"
    assert not scripted.asked("/revoke")

    scripted.on(WELL_KNOWN, Answer(body=discovered))
    forget_discovery(monkeypatch)
    with pytest.raises(ReauthorizationRequired):
        session_for_keyring("acme").get("me")
    assert len(scripted.asked("/api/me")) == 1
    assert forget_in_keyring("acme") == "revoked"
    assert [request.form["token"] for request in scripted.asked("/revoke")] == ["refresh-0"]
    assert small.entries == {}


def test_without_a_token_no_request_is_sent(small, discovered, scripted):
    assert forget_in_keyring("acme") == "absent"
    assert not scripted.requests
