"""Promise 6: a valid token adds no query to a call."""

from __future__ import annotations

import pytest
from django.urls import reverse

from oauth_connect import crypto
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


@pytest.fixture
def opened(monkeypatch) -> list[object]:
    """The binding of each value that is unsealed from now on."""
    bindings: list[object] = []
    unseal = crypto.unseal

    def recorded(sealed, *expected):
        bindings.append(expected[0])
        return unseal(sealed, *expected)

    monkeypatch.setattr(crypto, "unseal", recorded)
    return bindings


def test_a_session_opens_its_token_once_when_the_first_call_uses_it(codeyard, connection, user, opened):
    http = session_for(user, "codeyard")
    assert opened == []
    assert [http.get("user").status_code for _ in range(3)] == [200] * 3
    assert [binding[:3] for binding in opened] == [
        ("oauth_connect.connection", "sealed_token", str(connection.pk))
    ]


@pytest.mark.django_db(transaction=True)
def test_a_refresh_opens_the_old_token_once_and_the_new_one_never(codeyard, make_connection, user, opened):
    make_connection("codeyard", age=3600, response=codeyard.grant())
    opened.clear()
    assert session_for(user, "codeyard").get("user").status_code == 200
    assert (codeyard.stats["rotations"], len(opened)) == (1, 1)


@pytest.mark.parametrize(
    "read",
    [
        lambda rows: [(row.provider, row.status, row.scopes) for row in rows.all()],
        lambda rows: list(rows.values()),
        lambda rows: rows.due().count(),
        lambda rows: [str(row) for row in rows.order_by("expires_at").iterator()],
    ],
    ids=["rows", "values", "count", "iterator"],
)
def test_a_list_of_connections_opens_no_token(connection, opened, read):
    read(Connection.objects)
    assert opened == []


@pytest.mark.parametrize("name", ["oauth_connect:connections", "admin:oauth_connect_connection_changelist"])
def test_a_page_that_lists_connections_opens_no_token(connection, visitor, user, opened, name):
    user.is_staff = user.is_superuser = True
    user.save()
    page = visitor.get(reverse(name))
    assert b"codeyard" in page.content.lower()
    assert opened == []
