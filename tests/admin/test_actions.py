"""Refresh and disconnect by staff, against a server that answers as it is told to."""

from __future__ import annotations

import base64

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import translation
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from oauth_connect.admin import actions
from oauth_connect.flows import machine_connection
from oauth_connect.models import Connection, PendingRevocation
from tests.admin.pages import Staff, path, text, told
from tests.servers.scripted import Answer
from tests.support.tokens import EXPIRED, stored, tokens

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("scripted_provider"),
    pytest.mark.compliance("D49"),
]

OTHER_KEY = base64.urlsafe_b64encode(b"a key of somebody else".ljust(32, b".")).decode()


def history(connection: Connection) -> list[str]:
    return [entry.change_message for entry in LogEntry.objects.filter(object_id=str(connection.pk))]


@pytest.fixture
def refresher(transactional_db: None) -> Staff:
    return Staff("view_connection", "refresh_connection")


@pytest.fixture
def disconnecter(transactional_db: None) -> Staff:
    return Staff("view_connection", "disconnect_connection")


# --- refresh --------------------------------------------------------------------------------------


def test_refresh_refreshes_reports_and_is_logged(scripted, issues, refresher, make_connection, canary):
    connections = [make_connection(age=age, account_label=f"a{age}") for age in (EXPIRED, 60)]
    issues()

    page = refresher.act("refresh_selected", connections)

    assert told(page) == [("success", "Refreshed (2): scripted: a60, scripted: a7200.")]
    assert len(scripted.asked("/token")) == 2, "also the one whose token is still valid"
    for connection in connections:
        assert stored(connection).token.access_token == f"{canary}-access"
        assert history(connection) == ["Refreshed"]
    entry = LogEntry.objects.first()
    assert (entry.user, entry.is_change()) == (refresher.user, True)


UNAVAILABLE = "The provider is not available; try again later"
FAILURES: dict[str, tuple[Answer, str, str]] = {
    "ill": (Answer(503, b"canary"), "warning", f"{UNAVAILABLE} (1): {{}} (http_503)."),
    "lost": (Answer(cut=-1), "warning", f"{UNAVAILABLE} (1): {{}} (answer_lost)."),
    "ended": (
        Answer(400, {"error": "invalid_grant", "error_description": "canary"}),
        "warning",
        "The owner must connect the account again (1): {} (revoked).",
    ),
    "settings": (
        Answer(401, {"error": "invalid_client", "error_description": "canary"}),
        "error",
        "The provider does not accept this site's client; correct the settings (1): {} (invalid_client).",
    ),
    "refused": (
        Answer(400, {"error": "invalid_scope", "error_description": "canary"}),
        "error",
        "The provider refused the request (1): {} (invalid_scope).",
    ),
    "refused in words": (
        Answer(400, {"error": "<b>canary</b> says no"}),
        "error",
        "The provider refused the request (1): {} (another error).",
    ),
}


@pytest.mark.compliance("D45", "D60")
@pytest.mark.parametrize(("answer", "level", "message"), FAILURES.values(), ids=FAILURES)
def test_a_failure_is_reported_in_our_words(scripted, refresher, make_connection, answer, level, message):
    scripted.on("/token", answer)
    connection = make_connection(age=EXPIRED)
    page = refresher.act("refresh_selected", [connection])
    assert told(page) == [(level, message.format(connection))]
    assert b"canary" not in page.content
    (entry,) = history(connection)
    assert "canary" not in entry
    assert "canary" not in text(refresher.get("history", connection.pk))


@pytest.mark.compliance("D52")
def test_one_bad_row_does_not_stop_the_others(
    scripted, issues, refresher, make_connection, change, configure, scripted_entry, monkeypatch, caplog
):
    configure(PROVIDERS={"scripted": scripted_entry, "second": scripted_entry})
    first, gone, sealed_elsewhere, broken, last = (
        make_connection(name, account_label=label, age=EXPIRED)
        for name, label in zip(
            ["scripted", "second", "scripted", "scripted", "scripted"],
            ["first", "gone", "elsewhere", "broken", "last"],
            strict=True,
        )
    )
    configure(PROVIDERS={"scripted": scripted_entry})
    change(sealed_elsewhere, sealed_token=first.sealed_token)
    refresh = Connection.refresh

    def refresh_or_break(connection: Connection) -> None:
        if connection.pk == broken.pk:
            raise ZeroDivisionError
        refresh(connection)

    monkeypatch.setattr(Connection, "refresh", refresh_or_break)

    page = refresher.act("refresh_selected", [first, gone, sealed_elsewhere, broken, last])

    no_key = "No configured key opens the token; put back the key that sealed it"
    assert sorted(told(page)) == [
        ("error", "An unexpected error occurred; see the log (1): scripted: broken."),
        ("error", f"{no_key} (1): scripted: elsewhere (key_unavailable)."),
        ("error", "The provider's settings are missing or wrong (1): second: gone."),
        ("success", "Refreshed (2): scripted: last, scripted: first."),
    ]
    assert "ZeroDivisionError" in caplog.text
    assert len(scripted.asked("/token")) == 2
    assert {row.status for row in Connection.objects.all()} == {"active"}


def test_a_valid_token_that_cannot_be_refreshed_is_unchanged(scripted, refresher, make_connection):
    """The refresh protocol would mark it: without a refresh token, the owner is all that is left."""
    endless = {"access_token": "a", "token_type": "Bearer"}
    valid = make_connection(response=endless, account_label="endless")
    over = make_connection(response={**endless, "expires_in": 60}, age=EXPIRED, account_label="over")

    page = refresher.act("refresh_selected", [valid, over])

    assert sorted(told(page)) == [
        ("info", "Still valid; the provider issued no refresh token (1): scripted: endless."),
        ("warning", "The owner must connect the account again (1): scripted: over (expired)."),
    ]
    assert stored(valid).status == "active"
    assert stored(over).status == "reauthorization_required"
    assert not scripted.requests


@pytest.mark.compliance("D33")
def test_what_needs_its_owner_is_not_asked_for_again(scripted, refresher, make_connection, change):
    ended = change(make_connection(), status="reauthorization_required", last_error="revoked")
    gone = make_connection()
    gone.disconnect()
    scripted.requests.clear()
    ((level, message),) = told(refresher.act("refresh_selected", [ended, gone]))
    assert (level, message.partition(" (")[0]) == ("warning", "The owner must connect the account again")
    assert not scripted.requests


def test_too_many_are_refused_and_led_to_the_command(scripted, refresher, make_connection, monkeypatch):
    monkeypatch.setattr("oauth_connect.admin.connection.MAX_SELECTED", 2)
    page = refresher.act("refresh_selected", [make_connection() for _ in range(3)])
    ((level, message),) = told(page)
    assert level == "error"
    assert message.startswith(
        "3 connections are selected, but only 2 can be done at a time. Nothing was done."
    )
    assert "manage.py oauth_refresh" in message
    assert not scripted.requests
    assert not LogEntry.objects.exists()


def test_the_bound_is_what_a_page_of_the_list_holds(superuser, make_connection):
    make_connection()
    assert superuser.get("changelist").context["cl"].list_per_page == actions.MAX_SELECTED == 50


def test_nothing_more_is_started_after_the_time_limit(
    scripted, issues, refresher, make_connection, monkeypatch
):
    """A web server that loses its patience would kill the worker in the middle of a refresh."""
    monkeypatch.setattr(actions, "BUDGET", 0.1)
    issues()
    answer = scripted.script["/token"][0]
    answer.delay = 0.15
    page = refresher.act("refresh_selected", [make_connection(age=EXPIRED) for _ in range(3)])
    assert [message.partition(":")[0] for _, message in told(page)] == [
        "Refreshed (1)",
        "Not done, because the time ran out; select again (2)",
    ]
    assert len(scripted.asked("/token")) == 1
    assert LogEntry.objects.count() == 1


@pytest.mark.compliance("D30")
def test_two_members_of_staff_in_parallel_never_spend_one_token_twice(
    scripted, issues, refresher, make_connection, calls_at_once
):
    connection = make_connection(age=EXPIRED)
    scripted.script["/token"][0].delay = 0.3

    def press() -> int:
        client = Client()
        client.force_login(refresher.user)
        data = {"action": "refresh_selected", "_selected_action": str(connection.pk)}
        return client.post(path("changelist"), data).status_code

    assert calls_at_once(2, press) == [302, 302]
    spent = [request.form["refresh_token"] for request in scripted.asked("/token")]
    assert spent.count("refresh-0") == 1


def test_from_a_connections_own_page_one_comes_back_to_it(issues, refresher, make_connection):
    connection = make_connection()
    page = refresher.act("refresh_selected", [connection], from_page="1")
    assert page.redirect_chain == [(path("change", connection.pk), 302)]
    assert "Refreshed (1)" in text(page)


def test_outcomes_are_shown_in_the_language_of_the_reader():
    outcomes = [each for each in vars(actions).values() if isinstance(each, actions.Outcome)]
    outcomes += actions.OUTCOMES.values()
    assert all(isinstance(outcome.text, Promise) for outcome in outcomes)
    report = actions.Report()
    report.add(actions.Outcome(gettext_lazy("Yes")), Connection(provider="x", account_label="y"))
    with translation.override("de"):
        assert [message for message, _ in report.messages()] == ["Ja (1): x: y."]


# --- disconnect -----------------------------------------------------------------------------------


def test_disconnect_asks_first(scripted, disconnecter, make_connection):
    connection = make_connection(account_label="octocat")
    page = disconnecter.act("disconnect_selected", [connection])
    assert "Disconnect connections The site stops using these accounts immediately" in text(page)
    assert "octocat active scripted grace" in text(page)
    assert str(connection.pk) in page.content.decode()
    assert stored(connection).status == "active"
    assert not scripted.requests
    assert not LogEntry.objects.exists()


def test_disconnect_stops_local_use_revokes_and_is_written_down(scripted, disconnecter, make_connection):
    scripted.on("/revoke", Answer(200))
    connections = [make_connection(account_label=label, response=tokens(label)) for label in ("a", "b")]

    page = disconnecter.act("disconnect_selected", connections, confirmed="yes")

    assert told(page) == [("success", "Disconnected (2): scripted: b, scripted: a.")]
    assert len(scripted.asked("/revoke")) == 2
    for connection in connections:
        assert (stored(connection).status, stored(connection).sealed_token) == ("revoked", None)
        assert history(connection) == ["Disconnected"]


@pytest.mark.compliance("D50")
def test_a_provider_that_does_not_answer_stops_nothing_here(scripted, disconnecter, make_connection):
    scripted.on("/revoke", Answer(503))
    connection = make_connection(account_label="a")
    page = disconnecter.act("disconnect_selected", [connection], confirmed="yes")
    message = "Disconnected here; the provider has not revoked the token yet (1): scripted: a."
    assert told(page) == [("warning", message)]
    assert stored(connection).status == "revoked"
    assert PendingRevocation.objects.get().connection_id == connection.pk


@pytest.mark.compliance("D43")
def test_a_token_that_no_key_opens_is_forgotten_and_said_to_live_on(
    scripted, disconnecter, make_connection, configure
):
    connection = make_connection()
    configure(KEYS=[OTHER_KEY])
    ((level, message),) = told(disconnecter.act("disconnect_selected", [connection], confirmed="yes"))
    assert level == "warning"
    assert "it could not be revoked at the provider" in message
    assert stored(connection).status == "revoked"
    assert not scripted.requests


def test_disconnecting_twice_says_so(scripted, disconnecter, make_connection, change):
    scripted.on("/revoke", Answer(200))
    connection = make_connection(account_label="a")
    connection.disconnect()
    version = stored(connection).version
    page = disconnecter.act("disconnect_selected", [connection], confirmed="yes")
    assert told(page) == [("info", "Already disconnected (1): scripted: a.")]
    assert stored(connection).version == version


def test_too_many_are_not_disconnected_either(scripted, disconnecter, make_connection, monkeypatch):
    monkeypatch.setattr("oauth_connect.admin.connection.MAX_SELECTED", 1)
    connections = [make_connection() for _ in range(2)]
    page = disconnecter.act("disconnect_selected", connections, confirmed="yes")
    assert [level for level, _ in told(page)] == ["error"]
    assert {row.status for row in Connection.objects.all()} == {"active"}


def test_the_confirmation_leads_back_to_a_connections_own_page(scripted, disconnecter, make_connection):
    scripted.on("/revoke", Answer(200))
    connection = make_connection()
    asked = disconnecter.act("disconnect_selected", [connection], from_page="1")
    assert b'name="from_page"' in asked.content
    page = disconnecter.act("disconnect_selected", [connection], from_page="1", confirmed="yes")
    assert page.redirect_chain == [(path("change", connection.pk), 302)]


# --- who may --------------------------------------------------------------------------------------


@pytest.mark.compliance("D48")
@pytest.mark.parametrize("action", ["refresh_selected", "disconnect_selected"])
@pytest.mark.parametrize(
    "others",
    [(), ("change_connection", "delete_connection", "add_connection")],
    ids=["view", "all of Django's"],
)
def test_without_its_permission_a_forged_action_does_nothing(scripted, make_connection, action, others):
    connection = make_connection(age=EXPIRED)
    staff = Staff("view_connection", *others)
    staff.act(action, [connection], confirmed="yes")
    assert not scripted.requests
    assert stored(connection).version == connection.version
    assert not LogEntry.objects.exists()


@pytest.mark.compliance("D48")
def test_one_permission_does_not_give_the_other(scripted, refresher, disconnecter, make_connection):
    connection = make_connection(age=EXPIRED)
    refresher.act("disconnect_selected", [connection], confirmed="yes")
    disconnecter.act("refresh_selected", [connection])
    assert not scripted.requests
    assert stored(connection).status == "active"


@pytest.mark.compliance("D16")
def test_actions_need_a_post_with_csrf(scripted, superuser, make_connection):
    connection = make_connection(age=EXPIRED)
    data = {"action": "refresh_selected", "_selected_action": str(connection.pk)}
    superuser.client.get(path("changelist"), data)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(superuser.user)
    assert strict.post(path("changelist"), data).status_code == 403
    assert not scripted.requests


# --- machine tokens -------------------------------------------------------------------------------


def test_a_machine_token_is_refreshed_although_it_has_no_refresh_token(issues, refresher):
    connection = machine_connection("scripted", scopes=["read"])  # no token yet

    for _ in range(2):
        page = refresher.act("refresh_selected", [connection])
        assert told(page) == [("success", "Refreshed (1): scripted: read.")]
    assert stored(connection).version == 2


def test_a_machine_token_is_revoked_and_the_next_call_gets_another(scripted, issues, disconnecter, canary):
    scripted.on("/revoke", Answer(200))
    connection = machine_connection("scripted", scopes=["read"])
    connection.access_token()

    disconnecter.act("disconnect_selected", [connection], confirmed="yes")

    assert stored(connection).status == "revoked"
    assert [request.form["token"] for request in scripted.asked("/revoke")] == [f"{canary}-access"]
    assert machine_connection("scripted", scopes=["read"]).access_token() == f"{canary}-access"
    assert stored(connection).status == "active"
