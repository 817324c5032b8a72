"""The packages with which sites fake an API go on doing that, and the fake provider does the rest."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import requests_mock
import responses
import respx

from oauth_connect.contrib.httpx import aclient_for, client_for
from oauth_connect.flows import session_for
from oauth_connect.testing import FakeProvider
from tests.support.tokens import stored

pytestmark = [pytest.mark.django_db, pytest.mark.once, pytest.mark.usefixtures("no_settings")]
ENTRY = {
    "authorization_endpoint": "https://acme.example/authorize",
    "token_endpoint": "https://acme.example/token",
    "userinfo_endpoint": "https://api.acme.example/v1/me",
    "api_base_url": "https://api.acme.example/v1/",
    "client_secret": "",
}
URL = "https://api.acme.example/v1/user"


@pytest.fixture(params=["the API's own URLs", "the fake's URLs"])
def fake(request):
    keep_api = request.param == "the API's own URLs"
    with FakeProvider("acme", entry=ENTRY, keep_api=keep_api) as fake:
        yield fake


def url(fake: FakeProvider) -> str:
    return URL if fake._keep_api else f"{fake.api_base_url}user"


def test_responses_serves_the_api_while_the_flow_and_the_refresh_go_to_the_fake(fake, client, user):
    with responses.RequestsMock() as mock:
        mock.get(url(fake), json={"login": "mocked"})
        connection = fake.connect(client)
        fake.expire(connection)
        assert session_for(user, "acme").get("user").json() == {"login": "mocked"}
        bearer = mock.calls[0].request.headers["Authorization"]
    assert bearer == f"Bearer {stored(connection).token.access_token}"
    assert [one.path for one in fake.requests] == ["/authorize", "/token", "/userinfo", "/token"]


def test_requests_mock_serves_the_api_while_the_flow_and_the_refresh_go_to_the_fake(fake, client, user):
    with requests_mock.Mocker() as mock:
        mock.get(url(fake), json={"login": "mocked"})
        fake.expire(fake.connect(client))
        assert session_for(user, "acme").get("user").json() == {"login": "mocked"}
    assert [one.path for one in fake.requests] == ["/authorize", "/token", "/userinfo", "/token"]


def test_respx_serves_the_api_while_the_flow_and_the_refresh_go_to_the_fake(fake, client, user):
    with respx.mock:
        respx.get(url(fake)).mock(return_value=httpx.Response(200, json={"login": "mocked"}))
        fake.expire(fake.connect(client))
        with client_for(user, "acme") as api:
            assert api.get("user").json() == {"login": "mocked"}
    assert [one.path for one in fake.requests] == ["/authorize", "/token", "/userinfo", "/token"]


def test_httpx_calls_the_api_of_the_fake(user):
    with FakeProvider("acme") as fake:
        fake.api("GET", "/user", json={"login": "octocat"})
        fake.expire(fake.store(user))
        with client_for(user, "acme") as api:
            assert api.get("user").json() == {"login": "octocat"}
        assert [one.path for one in fake.requests] == ["/token", "/api/user"]


@pytest.mark.django_db(transaction=True)
def test_an_async_client_calls_the_api_of_the_fake(user):
    with FakeProvider("acme") as fake:
        fake.api("GET", "/user", json={"login": "octocat"})
        fake.expire(fake.store(user))
        assert asyncio.run(called(user)) == {"login": "octocat"}
        assert [one.path for one in fake.requests] == ["/token", "/api/user"]


async def called(user):
    async with await aclient_for(user, "acme") as api:
        return (await api.get("user")).json()
