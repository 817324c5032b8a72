"""Each way in which providers want to be asked to revoke."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from oauth_connect.errors import ProviderRejected
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.token import Token
from tests.servers.scripted import Answer, ScriptedServer

TOKEN = Token(access_token="the-access", refresh_token="the-refresh", obtained_at=datetime.now(UTC))
BASIC = "Basic " + base64.b64encode(b"client:secret").decode()
MakeServer = Callable[..., AuthorizationServer]


def test_a_token_is_deleted_by_json_and_basic(server_of: MakeServer, scripted: ScriptedServer) -> None:
    scripted.on("/apps/client/token", Answer(204))
    revocation = {
        "method": "DELETE",
        "body": "json",
        "authentication": "client_secret_basic",
        "token": "access_token",
        "token_parameter": "access_token",
    }
    server = server_of(
        revocation=revocation,
        revocation_endpoint=f"{scripted.url}/apps/{{client_id}}/token",
        token_endpoint_auth_method="client_secret_post",
    )
    server.move_to(server.provider.resolve({}))
    assert server.revoke(TOKEN)
    [asked] = scripted.requests
    assert (asked.method, asked.headers["Authorization"]) == ("DELETE", BASIC)
    assert json.loads(asked.body) == {"access_token": "the-access"}


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_token_may_be_its_own_credential(
    method: str, server_of: MakeServer, scripted: ScriptedServer
) -> None:
    scripted.on("/revoke", Answer(body={"ok": True}))
    assert server_of(revocation={"style": "bearer", "method": method}).revoke(TOKEN)
    [asked] = scripted.requests
    assert (asked.method, asked.headers["Authorization"], asked.body) == (method, "Bearer the-access", b"")


def test_a_client_may_stay_out_of_it(server_of: MakeServer, scripted: ScriptedServer) -> None:
    scripted.on("/revoke", Answer(200))
    assert server_of(revocation={"authentication": "none"}).revoke(TOKEN)
    [asked] = scripted.requests
    assert "Authorization" not in asked.headers
    assert asked.form == {"token": "the-refresh", "token_type_hint": "refresh_token"}


@pytest.mark.parametrize(
    ("answer", "rules"),
    [
        ({"ok": False, "error": "not_authed"}, {}),
        ({"done": False}, {"success_field": "done"}),
        ({"status": "x"}, {"success_field": "done"}),
        ({"failure": {"code": 5}}, {"error_field": "failure.code"}),
    ],
)
def test_a_refusal_in_a_200_is_a_refusal(
    answer: Any, rules: Any, server_of: MakeServer, scripted: ScriptedServer
) -> None:
    scripted.on("/revoke", Answer(body=answer))
    with pytest.raises(ProviderRejected):
        server_of(token_response=rules).revoke(TOKEN)


def test_a_providers_word_becomes_the_rfcs(server_of: MakeServer, scripted: ScriptedServer) -> None:
    scripted.on("/token", Answer(400, {"fault": {"code": 190}}))
    rules = {"error_field": "fault.code", "errors": {"190": "invalid_grant"}}
    with pytest.raises(ProviderRejected) as refused:
        server_of(token_response=rules).refresh(TOKEN)
    assert (refused.value.error, refused.value.description) == ("invalid_grant", "190")


@pytest.mark.parametrize(
    ("description", "error"),
    [
        ("Value passed was invalid.", "invalid_grant"),
        ("Missing parameter.", "invalid_request"),
        ("", "invalid_request"),
    ],
)
def test_a_word_may_mean_different_things(
    description: str, error: str, server_of: MakeServer, scripted: ScriptedServer
) -> None:
    scripted.on("/token", Answer(400, {"error": "invalid_request", "error_description": description}))
    rules = {"errors": {"invalid_request: Value passed": "invalid_grant"}}
    with pytest.raises(ProviderRejected) as refused:
        server_of(token_response=rules).refresh(TOKEN)
    assert refused.value.error == error


def test_the_client_id_may_stand_beside_basic(server_of: MakeServer, scripted: ScriptedServer) -> None:
    scripted.on("/token", Answer(body={"access_token": "a", "token_type": "bearer"}))
    server_of(token_request={"repeat_client_id": True}).refresh(TOKEN)
    [asked] = scripted.requests
    assert (asked.headers["Authorization"], asked.form["client_id"]) == (BASIC, "client")
    assert "client_secret" not in asked.form
