from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.conf.issuer import CLIENT
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.discovery import WELL_KNOWN, document_of, forget_discovery


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_discovery(monkeypatch)


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
        scripted.on(WELL_KNOWN, Answer(body={**document_of(scripted.url), **(says or {})}))
        found = {"issuer": scripted.url, **CLIENT, **entry}
        configure(PROVIDERS={"acme": found})
        return found

    return make
