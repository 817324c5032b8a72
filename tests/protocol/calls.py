"""The calls that tests make at the scripted server."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.token import Token
from tests.servers.scripted import Recorded, ScriptedServer

HELD = Token("canary-access", datetime.now(UTC), refresh_token="canary-refresh", scopes=("x",))


def exchange(server: AuthorizationServer) -> Token:
    return server.exchange_code(
        code="the code", redirect_uri="https://app.example/cb", code_verifier="v" * 43
    )


CALLS: dict[str, tuple[str, Callable[[AuthorizationServer], Any]]] = {
    "exchange": ("/token", exchange),
    "refresh": ("/token", lambda server: server.refresh(HELD)),
    "revoke": ("/revoke", lambda server: server.revoke(HELD)),
    "userinfo": ("/userinfo", lambda server: server.userinfo(HELD)),
}
every_call = pytest.mark.parametrize("path, call", CALLS.values(), ids=CALLS)  # noqa: PT006


def asked_once(server: ScriptedServer, path: str) -> Recorded:
    (request,) = server.asked(path)
    return request
