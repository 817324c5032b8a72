"""Promise 6: a valid token adds no query to a call. (What it costs in time, benchmarks say.)"""

from __future__ import annotations

import pytest

from oauth_connect.flows import session_for
from oauth_connect.models import Connection
from tests.servers.scripted import Answer

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def api(scripted, scripted_provider):
    scripted.on("/api/me", Answer(body={"login": "ada"}))


def test_a_call_with_a_valid_token_costs_no_query(make_connection, django_assert_num_queries, scripted):
    connection = make_connection()
    with django_assert_num_queries(0):
        http = connection.session()
        for _ in range(3):
            assert http.get("me").json() == {"login": "ada"}
        assert connection.access_token() == "access-0"
    assert [request.headers["Authorization"] for request in scripted.asked("/api/me")] == [
        "Bearer access-0"
    ] * 3
    assert not scripted.asked("/token")


def test_from_a_user_to_a_session_is_one_query(make_connection, user, django_assert_num_queries):
    make_connection()
    with django_assert_num_queries(1):
        session_for(user, "scripted").get("me")


@pytest.mark.django_db(transaction=True)
def test_a_refresh_is_three_statements(make_connection, scripted, django_assert_num_queries):
    scripted.on(
        "/token", Answer(body={"access_token": "access-1", "token_type": "Bearer", "expires_in": 3600})
    )
    connection = make_connection(age=7200)
    with django_assert_num_queries(3):
        connection.session().get("me")


def test_listing_connections_opens_no_token(make_connection, configure):
    make_connection()
    configure(KEYS=["bm90IHRoZSBrZXkgdGhhdCBzZWFsZWQgdGhlIHJvd3M="])
    assert [connection.provider for connection in Connection.objects.all()] == ["scripted"]
