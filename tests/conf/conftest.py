from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import caches

from oauth_connect.conf import conf
from oauth_connect.issuers import Issuers
from tests.conf.issuer import CLIENT, WELL_KNOWN
from tests.servers.scripted import Answer, ScriptedServer


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "_issuers", Issuers())
    caches["default"].clear()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the network was used")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def acme(scripted: ScriptedServer, configure: Callable[..., None]) -> Callable[..., dict[str, Any]]:
    """Configure the scripted server by its issuer alone, varied; ``says`` goes into its document."""

    def make(says: dict[str, Any] | None = None, **entry: Any) -> dict[str, Any]:
        document = {
            "issuer": scripted.url,
            "authorization_endpoint": f"{scripted.url}/authorize",
            "token_endpoint": f"{scripted.url}/token",
            "revocation_endpoint": f"{scripted.url}/revoke",
            **(says or {}),
        }
        scripted.on(WELL_KNOWN, Answer(body=document))
        found = {"issuer": scripted.url, **CLIENT, **entry}
        configure(PROVIDERS={"acme": found})
        return found

    return make
