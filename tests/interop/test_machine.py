"""Client credentials at a server that others wrote."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from oauth_connect.flows import machine_session
from oauth_connect.models import Connection
from oauth_connect.protocol import token
from tests.servers.oidc_provider import OIDCProvider

pytestmark = pytest.mark.django_db(transaction=True)

RESOURCE = "https://api.example/reports"


@pytest.fixture
def machine(oidc: OIDCProvider, configure: Callable[..., None]) -> OIDCProvider:
    configure(PROVIDERS={"machine": oidc.entry("machine")})
    return oidc


def test_a_machine_token_is_asked_for_once_and_opens_the_api(machine: OIDCProvider) -> None:
    for _ in range(2):
        answer = machine_session("machine", scopes=["read"], resource=RESOURCE).get("testing/api")
        assert answer.status_code == 200
        assert answer.json() == {"audience": RESOURCE, "scope": "read", "client": "machine"}
    assert machine.stats["granted"] == {"client_credentials": 1}
    (row,) = Connection.objects.all()
    assert (row.user, row.resource, row.scopes) == (None, RESOURCE, ["read"])


def test_tokens_for_other_scopes_are_others(machine: OIDCProvider) -> None:
    for scopes in (["read"], ["read", "write"]):
        answer = machine_session("machine", scopes=scopes, resource=RESOURCE).get("testing/api")
        assert answer.json()["scope"] == " ".join(scopes)
    assert machine.stats["granted"] == {"client_credentials": 2}


def test_an_api_that_refuses_each_machine_token_causes_one_more_request(
    machine: OIDCProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine token belongs to no user, and userinfo needs one: the next token is refused too."""
    monkeypatch.setattr(token, "OWN_PAUSE_AFTER_401", timedelta(hours=1))
    for _ in range(3):
        http = machine_session("machine", scopes=["read"], resource=RESOURCE)
        assert http.get("me").status_code == 401
    assert machine.stats["granted"] == {"client_credentials": 2}
