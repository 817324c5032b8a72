"""The history records the events of connections. A failing history loses no token and fails no call."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.db import connection as database
from django.db import connections, transaction
from django.utils import timezone

from oauth_connect.errors import CallError
from oauth_connect.models import Connection, ConnectionEvent
from oauth_connect.models.lifecycle import history
from tests.servers.scripted import Answer
from tests.support.follow_ups import wait_for_follow_ups
from tests.support.tokens import EXPIRED, FRESH

transactional = pytest.mark.django_db(transaction=True)
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]


@pytest.fixture
def expired(make_connection, configure) -> Connection:
    """A connection with an expired token and without a history."""
    configure(HISTORY_DAYS=0)
    connection: Connection = make_connection(age=EXPIRED)
    configure(HISTORY_DAYS=365)
    return connection


def events() -> list[tuple[str, str]]:
    wait_for_follow_ups()
    return list(ConnectionEvent.objects.order_by("pk").values_list("action", "error"))


# --- refreshes --------------------------------------------------------------------------------------


def test_a_refresh_is_recorded(scripted, expired):
    scripted.on("/token", Answer(body=FRESH))
    expired.access_token()
    (entry,) = ConnectionEvent.objects.all()
    assert (entry.connection_id, entry.provider, entry.owner) == (expired.pk, "scripted", expired.owner)
    assert (entry.action, entry.error, entry.actor, entry.detail) == ("refreshed", "", None, {})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(503), ("refresh_failed", "http_503")),
        (Answer(cut=-1), ("refresh_failed", "answer_lost")),
        (Answer(401, {"error": "invalid_client"}), ("refresh_failed", "invalid_client")),
        (Answer(400, {"error": "invalid_grant"}), ("reauthorization_required", "revoked")),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_a_failure_is_recorded_with_its_code(scripted, expired, answer, expected):
    scripted.on("/token", answer)
    with pytest.raises(CallError):
        expired.access_token()
    assert events() == [expected]


@pytest.mark.compliance("D45", "D60")
def test_a_providers_own_words_are_not_kept(scripted, expired, canary, caplog):
    scripted.on("/token", Answer(400, {"error": f"{canary}", "error_description": canary}))
    with pytest.raises(CallError):
        expired.access_token()
    assert events() == [("refresh_failed", "other_error")]
    assert canary not in caplog.text


@transactional
def test_an_event_survives_a_rollback_of_the_callers_transaction(scripted, expired):
    scripted.on("/token", Answer(body=FRESH))
    with transaction.atomic():
        expired.access_token()
        transaction.set_rollback(True)
    assert events() == [("refreshed", "")]
    assert Connection.objects.get().token.access_token == "access-1"


@transactional
def test_an_event_is_written_once_when_the_callers_transaction_is_committed(scripted, expired):
    scripted.on("/token", Answer(body=FRESH))
    with transaction.atomic():
        expired.access_token()
    assert events() == [("refreshed", "")]


@transactional
def test_an_event_survives_a_rollback_with_autocommit_off(scripted, expired):
    scripted.on("/token", Answer(body=FRESH))
    database.set_autocommit(False)
    try:
        expired.access_token()
    finally:
        database.rollback()
        database.set_autocommit(True)
    assert events() == [("refreshed", "")]


@transactional
def test_a_row_that_is_not_committed_is_rolled_back_with_its_events(make_connection, scripted):
    """On SQLite no other connection sees an uncommitted row, so the event stays."""
    scripted.on("/token", Answer(body=FRESH))
    with transaction.atomic():
        make_connection(age=EXPIRED).access_token()
        transaction.set_rollback(True)
    assert events() == ([("refreshed", "")] if database.vendor == "sqlite" else [])


# --- a failing history -----------------------------------------------------------------------------


@pytest.fixture
def no_table(django_db_blocker: Any) -> Any:
    """Remove the table, as on a site that has not migrated."""
    with connections["default"].schema_editor() as editor:
        editor.alter_db_table(ConnectionEvent, "oauth_connect_connectionevent", "renamed_table")
    yield
    wait_for_follow_ups()
    with connections["default"].schema_editor() as editor:
        editor.alter_db_table(ConnectionEvent, "renamed_table", "oauth_connect_connectionevent")


@transactional
@pytest.mark.parametrize("inside", [False, True], ids=["autocommit", "inside a transaction"])
def test_a_history_that_cannot_be_written_costs_no_token(scripted, expired, no_table, caplog, inside):
    scripted.on("/token", Answer(body=FRESH))
    if inside:
        with transaction.atomic():
            assert expired.access_token() == "access-1"
            Connection.objects.filter(pk=expired.pk).update(account_label="the transaction continues")
    else:
        assert expired.access_token() == "access-1"
    wait_for_follow_ups()
    stored = Connection.objects.get()
    assert stored.token.access_token == "access-1"
    assert stored.account_label == ("the transaction continues" if inside else "")
    assert [record.action for record in caplog.records if record.levelno >= logging.ERROR] == [
        "history_failed"
    ]


@transactional
def test_an_event_that_cannot_be_written_breaks_no_transaction(expired, no_table, caplog):
    with transaction.atomic():
        history.record(expired, history.Action.KEY_ROTATED)
        history.write([history.of(expired, history.Action.KEY_ROTATED) for _ in range(3)])
        Connection.objects.filter(pk=expired.pk).update(account_label="the transaction continues")
    assert Connection.objects.get().account_label == "the transaction continues"
    assert [record.action for record in caplog.records] == ["history_failed"] * 2


def test_a_wrong_setting_costs_no_token(scripted, expired, configure, caplog):
    configure(HISTORY_DAYS="a year")
    scripted.on("/token", Answer(body=FRESH))
    assert expired.access_token() == "access-1"
    assert "history_failed" in [getattr(record, "action", "") for record in caplog.records]


# --- cost -------------------------------------------------------------------------------------------


def test_an_event_has_the_time_when_it_happened(expired):
    entry = history.of(expired, history.Action.KEY_ROTATED)
    happened = timezone.now()
    history.write([entry, history.of(expired, history.Action.KEY_ROTATED)])
    first, second = ConnectionEvent.objects.order_by("pk").values_list("created_at", flat=True)
    assert first <= happened <= second


@transactional
def test_many_events_are_one_insert(expired, django_assert_max_num_queries):
    many = [history.of(expired, history.Action.KEY_ROTATED) for _ in range(100)]
    with django_assert_max_num_queries(1 + 2) as asked:  # before Django 6.1 with a transaction around it
        history.write(many)
    assert sum(query["sql"].startswith("INSERT") for query in asked.captured_queries) == 1
    assert ConnectionEvent.objects.filter(action="key_rotated").count() == 100


@transactional
def test_one_event_is_one_statement(expired, django_assert_num_queries):
    with django_assert_num_queries(1):
        history.record(expired, history.Action.KEY_ROTATED)


@transactional
def test_without_a_history_a_refresh_is_three_statements(
    scripted, expired, configure, django_assert_num_queries
):
    configure(HISTORY_DAYS=0)
    scripted.on("/token", Answer(body=FRESH))
    with django_assert_num_queries(3):
        expired.access_token()
    assert events() == []


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_an_event_is_in_the_database_of_its_connection(expired, make_connection):
    history.record(expired, history.Action.KEY_ROTATED)
    expired._state.db = "other"
    history.record(expired, history.Action.KEY_ROTATED)
    assert [ConnectionEvent.objects.using(alias).count() for alias in ("default", "other")] == [1, 1]


# --- other events -----------------------------------------------------------------------------------


def test_connecting_is_recorded_with_its_user(make_connection, other_user):
    connection = make_connection(owner="team:core", connected_by=other_user)
    (entry,) = ConnectionEvent.objects.all()
    assert (entry.action, entry.connection_id) == ("connected", connection.pk)
    assert (entry.owner, entry.actor) == ("team:core", other_user)


def test_changed_scopes_are_recorded(make_connection, scripted, user):
    response = {**FRESH, "scope": "read write"}
    connection = make_connection(account_id="a", response=response, age=EXPIRED)
    scripted.on("/token", Answer(body={**FRESH, "scope": "read"}))
    connection.access_token()
    make_connection(account_id="a", response={**FRESH, "scope": "read delete"})
    events = ConnectionEvent.objects.order_by("pk").values_list("action", "actor", "detail")
    assert list(events) == [
        ("connected", user.pk, {}),
        ("refreshed", None, {}),
        ("scopes_changed", None, {"added": [], "removed": ["write"]}),
        ("connected", user.pk, {}),
        ("scopes_changed", user.pk, {"added": ["delete"], "removed": []}),
    ]


def test_scopes_in_another_order_have_not_changed(make_connection, scripted):
    connection = make_connection(response={**FRESH, "scope": "read write"}, age=EXPIRED)
    scripted.on("/token", Answer(body={**FRESH, "scope": "write read"}))
    connection.access_token()
    assert [action for action, _ in events()] == ["connected", "refreshed"]


@pytest.mark.compliance("D49")
def test_disconnecting_is_recorded_once_with_its_user(expired, scripted, user, other_user):
    scripted.on("/revoke", Answer(200))
    expired.disconnect(actor=other_user)
    expired.disconnect(actor=user)
    (entry,) = ConnectionEvent.objects.all()
    assert (entry.action, entry.actor) == ("disconnected", other_user)


def test_a_disconnection_that_is_rolled_back_is_not_recorded(expired):
    with transaction.atomic():
        expired.disconnect()
        transaction.set_rollback(True)
    assert events() == []


def test_an_event_survives_its_connection_and_its_user(expired, other_user):
    history.record(expired, history.Action.DISCONNECTED, actor=other_user)
    other_user.delete()
    expired.delete()
    entries = ConnectionEvent.objects.all()
    assert [(entry.action, entry.actor) for entry in entries] == [("disconnected", None)] * 2
