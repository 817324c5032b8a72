"""The authorization code flow and what follows it, at a server that nobody wrote for this package."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from django.conf import settings

from oauth_connect.errors import ReauthorizationRequired
from oauth_connect.models import Connection
from tests.interop.browser import Browser
from tests.servers.oidc_provider import OIDCProvider
from tests.support.visitor import Visitor, query_of
from tests.support.workers import call_together

pytestmark = pytest.mark.django_db(transaction=True)

Connect = Callable[..., Connection]


def stale(connection: Connection) -> Connection:
    """Store its token as one of long ago, as if an hour had passed."""
    token = connection.token
    answer = {"access_token": token.access_token, "refresh_token": token.refresh_token}
    return Connection.objects.store(
        owner=connection.user,
        provider="oidc",
        account_id=connection.account_id,
        token_response={**answer, "token_type": "Bearer", "expires_in": 600, "scope": " ".join(token.scopes)},
        obtained_at=datetime.now(UTC) - timedelta(hours=1),
    )


@pytest.mark.compliance("A5", "B2")
def test_an_issuer_alone_is_enough_to_connect_and_call(connected: Connect, oidc: OIDCProvider) -> None:
    connection = connected()
    assert (connection.account_id, connection.account_label) == ("ada", "ada of the tests")
    assert sorted(connection.scopes) == ["offline_access", "openid", "profile"]
    assert connection.token.renewable
    assert connection.session().get("me").json()["sub"] == "ada"
    assert oidc.stats["granted"] == {"authorization_code": 1}


def test_a_client_that_sends_its_secret_in_the_body_connects_too(
    connected: Connect, configure: Callable[..., None]
) -> None:
    entry = settings.OAUTH_CONNECT["PROVIDERS"]["oidc"]
    method = {"client_id": "web-post", "token_endpoint_auth_method": "client_secret_post"}
    configure(PROVIDERS={"oidc": {**entry, **method}})
    connection = connected()
    connection.refresh()
    assert connection.session().get("me").status_code == 200


@pytest.mark.compliance("A8")
def test_an_answer_names_its_issuer_and_another_name_is_refused(oidc: OIDCProvider, visitor: Visitor) -> None:
    with Browser(oidc.url) as browser:
        answer = browser.authorize(visitor.start("oidc"))
    assert answer["iss"] == oidc.url
    refused: Any = visitor.come_back("oidc", **{**answer, "iss": f"{oidc.url}/"})
    assert refused.status_code == 400
    assert oidc.stats["granted"] == {}
    assert not Connection.objects.exists()


@pytest.mark.compliance("B5")
def test_a_hundred_rotations_use_each_refresh_token_once(connected: Connect, oidc: OIDCProvider) -> None:
    connection = connected()
    for _ in range(100):
        Connection.objects.get(pk=connection.pk).refresh()
    stats = oidc.stats
    assert stats["granted"]["refresh_token"] == 100
    assert list(stats["refresh_tokens"].values()) == [1] * 100
    assert stats["refused"] == {}
    assert Connection.objects.get(pk=connection.pk).session().get("me").status_code == 200


def test_a_spent_refresh_token_ends_the_grant_and_the_user_is_needed(
    connected: Connect, oidc: OIDCProvider
) -> None:
    connection = connected()
    spent = connection.token.refresh_token
    connection.refresh()
    thief = requests.post(
        f"{oidc.url}/token",
        data={"grant_type": "refresh_token", "refresh_token": spent},
        auth=("web", "secret+of+the+tests%3A+%2B%26%25"),
        timeout=60,
    )
    assert thief.json()["error"] == "invalid_grant"

    with pytest.raises(ReauthorizationRequired) as caught:
        connection.refresh()
    assert caught.value.reason == "revoked"
    assert Connection.objects.get(pk=connection.pk).status == "reauthorization_required"
    asked = oidc.stats["refused"]
    with pytest.raises(ReauthorizationRequired):
        connection.refresh()
    assert oidc.stats["refused"] == asked

    healed = connected()
    assert healed.pk == connection.pk
    assert healed.session().get("me").status_code == 200


@pytest.mark.compliance("D30")
def test_sixteen_callers_at_expiry_make_one_token_request(connected: Connect, oidc: OIDCProvider) -> None:
    connection = stale(connected())
    providers = {"PROVIDERS": settings.OAUTH_CONNECT["PROVIDERS"]}
    results = call_together(
        processes=4, threads=4, connection=str(connection.pk), path="me", settings=providers
    )
    version = connection.version + 1
    assert results == [{"status": 200, "version": version}] * 16
    assert oidc.refreshes == 1
    assert oidc.stats["refused"] == {}


@pytest.mark.compliance("A34")
def test_disconnecting_revokes_the_grant_there(connected: Connect, oidc: OIDCProvider) -> None:
    connection = connected()
    token = connection.token
    connection.disconnect()
    assert oidc.stats["revocations"] >= 1
    bearer = {"Authorization": f"Bearer {token.access_token}"}
    assert requests.get(f"{oidc.url}/me", headers=bearer, timeout=60).status_code == 401


def test_two_accounts_of_one_user_stay_apart(connected: Connect) -> None:
    ada, grace = connected("ada"), connected("grace")
    assert ada.pk != grace.pk
    assert ada.session().get("me").json()["sub"] == "ada"
    assert grace.session().get("me").json()["sub"] == "grace"


def test_the_request_carries_a_challenge_and_no_verifier(oidc: OIDCProvider, visitor: Visitor) -> None:
    sent = query_of(visitor.start("oidc"))
    assert sent["code_challenge_method"] == "S256"
    assert "code_verifier" not in sent
    assert sent["redirect_uri"] == "https://app.example/oauth/oidc/callback/"
