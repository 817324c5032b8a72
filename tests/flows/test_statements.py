"""How many statements a start and a callback cost, with sessions in the database.

Statements are those that pass Django's cursor. BEGIN passes it on SQLite only.
"""

from __future__ import annotations

import math

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from oauth_connect.flows import pending
from oauth_connect.models import Connection, ConnectionEvent, PendingRevocation, ProviderState
from tests.support.visitor import Visitor, state_of

pytestmark = pytest.mark.django_db(transaction=True)


def on_sqlite(with_begin: int, *, begins: int) -> int:
    """Return the number for this database, from that of SQLite and its BEGINs."""
    return with_begin if database.vendor == "sqlite" else with_begin - begins


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A busy machine must not make a request slow enough to read the session again."""
    monkeypatch.setattr(pending, "RECENT", math.inf)


@pytest.fixture
def counted():
    """Return a function that makes a request and returns its response, and the number of its statements."""

    def count(act, *args, **kwargs):
        statements = []

        def note(execute, sql, *rest):
            statements.append(sql)
            return execute(sql, *rest)

        with database.execute_wrapper(note):
            response = act(*args, **kwargs)
        assert response.status_code == 302
        return response, len(statements)

    return count


@pytest.fixture
def unrevocable(scripted_entry, configure):
    del scripted_entry["revocation_endpoint"]
    configure(PROVIDERS={"scripted": scripted_entry})


def come_back(visitor, counted):
    _, statements = counted(visitor.come_back, state=state_of(visitor.start()), code="code")
    return statements


def test_a_start_is_four_statements(visitor, scripted_provider, counted):
    """Session, user, and the session's UPDATE in a transaction."""
    for _ in range(2):
        assert counted(visitor.post, "/oauth/scripted/connect/")[1] == on_sqlite(4, begins=1)


def test_a_first_callback_is_nine_statements(visitor, scripted_provider, issues, counted):
    """Session, user, state, session, connection, user again, INSERT, history, alarm."""
    assert come_back(visitor, counted) == 9
    assert ConnectionEvent.objects.count() == 1


def test_a_reconnect_is_eight_statements(visitor, unrevocable, issues, counted):
    """Session, user, state, session, connection with user and alarm, UPDATE and history in a transaction."""
    visitor.connect()
    for _ in range(2):
        assert come_back(visitor, counted) == on_sqlite(8, begins=1)
    assert (Connection.objects.get().version, ConnectionEvent.objects.count()) == (2, 3)


def test_a_reconnect_that_keeps_the_old_token_for_revocation_is_two_more(
    visitor, scripted_provider, issues, counted
):
    """The kept token, and whether there are too many."""
    visitor.connect()
    issues(refresh_token="another refresh token")
    assert come_back(visitor, counted) == on_sqlite(10, begins=1)
    assert PendingRevocation.objects.count() == 1


def test_an_alarm_is_one_more_and_ends(visitor, unrevocable, issues, counted):
    visitor.connect()
    ProviderState.objects.create(provider="scripted", alarm="invalid_client")

    assert come_back(visitor, counted) == on_sqlite(9, begins=1)
    assert not ProviderState.objects.exclude(alarm="").exists()


def test_a_callback_writes_no_session(visitor, scripted_provider, issues):
    state = state_of(visitor.start())
    with CaptureQueriesContext(database) as captured:
        visitor.come_back(state=state, code="code")

    written = [one["sql"] for one in captured.captured_queries if one["sql"].startswith("UPDATE")]
    assert not [sql for sql in written if "django_session" in sql]


def test_a_message_that_waits_already_is_not_repeated(visitor, scripted_provider, issues):
    for _ in range(3):
        visitor.connect()

    assert visitor.get("/oauth/").content.count(b"scripted is connected.") == 1


def test_a_session_that_got_another_key_gets_its_cookie(user, scripted_provider):
    """A middleware may rotate the key in the same request. The start must not keep the cookie back."""
    visitor = Visitor(user)
    request = visitor.request()
    request.COOKIES["sessionid"] = visitor.client.cookies["sessionid"].value
    assert pending.write(request, {"any": "value"})
    assert not request.session.modified, "the middleware would save it a second time"
    request.session.cycle_key()
    assert pending.write(request, {"any": "value"})

    assert request.session.modified
