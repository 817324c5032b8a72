"""Promise 6: a valid token adds no query to a call."""

from __future__ import annotations

import pytest

from oauth_connect.flows import session_for
from oauth_connect.models import Connection

pytestmark = pytest.mark.django_db


@pytest.fixture
def connection(codeyard, make_connection) -> Connection:
    connection: Connection = make_connection("codeyard", response=codeyard.grant())
    return connection


def test_calls_with_a_valid_token_cost_no_query(codeyard, connection, django_assert_num_queries):
    with django_assert_num_queries(0):
        http = connection.session()
        assert [http.get("user").json()["login"] for _ in range(3)] == ["ada"] * 3
        assert connection.access_token() == connection.token.access_token
    assert (codeyard.stats["api_calls"], codeyard.refreshes) == (3, 0)


def test_from_a_user_to_a_session_is_one_query(connection, user, django_assert_num_queries):
    with django_assert_num_queries(1):
        assert session_for(user, "codeyard").get("user").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_refresh_is_four_statements_with_its_history(codeyard, make_connection, django_assert_num_queries):
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())
    with django_assert_num_queries(4):
        assert connection.session().get("user").status_code == 200
    assert codeyard.stats["rotations"] == 1


def test_listing_connections_opens_no_token(connection, configure):
    configure(KEYS=["bm90IHRoZSBrZXkgdGhhdCBzZWFsZWQgdGhlIHJvd3M="])
    assert [row.provider for row in Connection.objects.all()] == ["codeyard"]
