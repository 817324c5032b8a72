"""Machine tokens: the site's own, for which no user stands (RFC 6749 section 4.4)."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection as database
from django.db import connections, transaction

from oauth_connect.errors import (
    ProviderMisconfigured,
    ProviderUnavailable,
    ReauthorizationRequired,
)
from oauth_connect.flows import (
    amachine_access_token,
    amachine_connection,
    connection_for,
    machine_access_token,
    machine_connection,
    machine_session,
)
from oauth_connect.models import Connection, ConnectionEvent, Owner, PendingRevocation, ProviderState
from oauth_connect.models.owner import owner_of
from oauth_connect.protocol import token as token_module
from oauth_connect.stores.columns import token_columns
from tests.servers.codeyard import MACHINE_ID
from tests.servers.scripted import Answer
from tests.support.aging import age, long_back_offs
from tests.support.follow_ups import wait_for_follow_ups
from tests.support.threads import meanwhile

pytestmark = pytest.mark.django_db
transactional = pytest.mark.django_db(transaction=True)

HOUR = 3600


def issued(number: int, **fields: Any) -> Answer:
    return Answer(
        body={"access_token": f"access-{number}", "token_type": "Bearer", "expires_in": HOUR, **fields}
    )


@pytest.fixture
def reports(codeyard, configure) -> Any:
    """Codeyard, and its client for machine tokens in the settings."""
    configure(PROVIDERS={"reports": codeyard.machine_entry()})
    return codeyard


@pytest.fixture
def machine(scripted, scripted_provider) -> Any:
    """The scripted server: each request for a token gets another one."""
    scripted.on("/token", *(issued(number) for number in range(1, 9)))
    scripted.on("/revoke", Answer(200))
    scripted.on("/api/figures", Answer(body={"n": 1}))
    return scripted


@pytest.fixture
def area(machine, scripted_entry) -> dict[str, Any]:
    """A provider whose token says where its API is."""
    told = {"source": "token_response", "field": "instance", "pattern": r"\w+"}
    return {**scripted_entry, "api_base_url": f"{machine.url}/{{area}}/", "variables": {"area": told}}


# --- against a real authorization server ------------------------------------------------------


@pytest.mark.compliance("A21")
def test_the_site_calls_an_api_in_its_own_name(reports):
    http = machine_session("reports", scopes=("analytics",))

    assert http.get("analytics").json()["repositories"] > 0
    assert machine_session("reports", scopes=["analytics"]).get("analytics").ok
    assert len(machine_access_token("reports")) > 20  # the scopes of the entry
    assert reports.machine_requests == 1


def test_its_token_is_a_connection_of_no_user(reports):
    machine_access_token("reports")

    connection = Connection.objects.get()
    assert (connection.user, connection.connected_by, connection.account_id) == (None, None, "")
    assert (connection.owner, connection.grant) == ("machine:reports", "client_credentials")
    assert (connection.client_id, connection.scopes) == (MACHINE_ID, ["analytics"])
    assert connection.status == "active"
    assert connection.token.access_token not in connection.sealed_token.ciphertext


def test_an_expired_token_is_fetched_again_by_the_caller_that_needs_it(reports):
    connection = machine_connection("reports")
    first = connection.access_token()
    reports.expire()
    age(connection, HOUR)

    assert machine_session("reports").get("analytics").ok
    assert machine_access_token("reports") != first
    assert (reports.machine_requests, reports.stats["api_401s"]) == (2, 0)


@pytest.mark.compliance("A22", "D36")
def test_a_token_that_the_api_refuses_is_dropped_and_fetched_again_once(reports):
    connection = machine_connection("reports")
    connection.access_token()
    held = age(connection, 100)  # old enough, and by its expiry still valid
    reports.expire()

    assert held.session().get("analytics").status_code == 200
    assert (reports.machine_requests, reports.stats["api_401s"]) == (2, 1)
    assert Connection.objects.get().version == 2


def test_a_token_that_is_refused_is_fetched_again_and_its_successor_not_immediately(reports, monkeypatch):
    monkeypatch.setattr(token_module, "OWN_PAUSE_AFTER_401", timedelta(hours=1))
    http = machine_session("reports")
    assert http.get("analytics").ok
    reports.expire()
    assert http.get("analytics").ok
    assert reports.machine_requests == 2

    reports.expire()
    assert http.get("analytics").status_code == 401
    assert reports.machine_requests == 2

    monkeypatch.undo()
    age(Connection.objects.get(), 6)
    assert machine_session("reports").get("analytics").ok
    assert reports.machine_requests == 3


def test_for_a_client_that_may_not_have_one_the_error_says_where_to_allow_it(codeyard, configure):
    configure(PROVIDERS={"codeyard": codeyard.entry()})

    for _ in range(2):  # the second meets the back-off
        with pytest.raises(ProviderMisconfigured, match=r"(?i)client.credentials grant .*'codeyard'"):
            machine_session("codeyard", scopes=["analytics"]).get("analytics")
    assert codeyard.machine_requests == 1


def test_a_scope_that_the_client_may_not_have_is_named(reports):
    with pytest.raises(ProviderMisconfigured, match=r"invalid_scope.*requested scopes \(everything\)") as met:
        machine_access_token("reports", scopes=["everything"])

    assert met.value.error == "invalid_scope"
    assert machine_access_token("reports", scopes=["analytics"])
    assert not ProviderState.objects.exclude(alarm="").exists()


@transactional
def test_disconnecting_revokes_it_there_and_the_next_call_gets_another(reports):
    connection = machine_connection("reports")
    revoked = connection.access_token()
    elsewhere = machine_connection("reports").session()

    connection.disconnect()

    assert Connection.objects.get().sealed_token is None
    assert reports.stats["revocations"] == 1
    assert machine_access_token("reports") != revoked
    assert elsewhere.get("analytics").status_code == 200
    assert Connection.objects.get().status == "active"


def test_async_code_gets_the_same_one(machine):
    async def ask() -> tuple[str, Connection]:
        return await amachine_access_token("scripted"), await amachine_connection("scripted")

    token, connection = async_to_sync(ask)()
    assert (token, connection.owner) == ("access-1", "machine:scripted")


@transactional
@pytest.mark.parametrize("what", [amachine_access_token, amachine_connection])
def test_a_provider_that_hangs_holds_up_no_query_of_async_code(machine, configure, area, what):
    answered = threading.Event()
    configure(PROVIDERS={"scripted": area})
    machine.on("/token", replace(issued(1, instance="api"), hold=answered))

    async def ask() -> tuple[int, Any]:
        try:
            asking = asyncio.ensure_future(what("scripted"))
            await machine.awaited("/token")
            rows = await Connection.objects.acount()
            assert not asking.done()
            answered.set()
            return rows, await asking
        finally:
            answered.set()
            await sync_to_async(connections.close_all)()

    rows, got = asyncio.run(ask())
    assert rows == 1
    if what is amachine_connection:
        assert got.variables == {"area": "api"}
        got = got.token.access_token
    assert got == "access-1"


# --- what is asked, and what tells two apart ---------------------------------------------------


def test_the_request_is_what_the_rfc_says(machine, configure, scripted_entry):
    configure(PROVIDERS={"scripted": {**scripted_entry, "scopes": ["read"]}})
    machine_access_token("scripted")
    machine_access_token(
        "scripted", scopes=["b", "a", "b"], resource="https://api.example/v1?x=1&y", audience="all of it"
    )

    first, second = (request.form for request in machine.asked("/token"))
    assert first == {"grant_type": "client_credentials", "scope": "read"}
    assert second == {
        "grant_type": "client_credentials",
        "scope": "a b",
        "resource": "https://api.example/v1?x=1&y",
        "audience": "all of it",
    }


def test_the_request_has_the_parameters_of_the_entry(machine, configure, scripted_entry):
    entry = {
        **scripted_entry,
        "token_request": {"params": {"audience": "of the entry", "tenant": "acme", "grant_type": "other"}},
        "authorize": {"scope_parameter": "permissions", "scope_separator": ","},
    }
    configure(PROVIDERS={"scripted": entry})
    machine_access_token("scripted", scopes=["b", "a"])
    machine_access_token("scripted", audience="of the call")
    first, second = (request.form for request in machine.asked("/token"))
    sent = {"grant_type": "client_credentials", "tenant": "acme"}
    assert first == {**sent, "audience": "of the entry", "permissions": "a,b"}
    assert second == {**sent, "audience": "of the call"}


def test_a_provider_without_scopes_is_sent_none(machine, configure, scripted_entry):
    configure(PROVIDERS={"scripted": {**scripted_entry, "authorize": {"scope_parameter": ""}}})
    machine_access_token("scripted", scopes=["a"])
    assert machine.asked("/token")[0].form == {"grant_type": "client_credentials"}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_providers_own_grant_is_sent_with_its_parameters(machine, configure, scripted_entry, asynchronous):
    rules = {"grant_type": "account_credentials", "params": {"account_id": "{account}"}}
    variables = {"account": {"pattern": r"\w+", "default": "abc"}}
    configure(PROVIDERS={"scripted": {**scripted_entry, "client_credentials": rules, "variables": variables}})
    call = async_to_sync(amachine_access_token) if asynchronous else machine_access_token
    assert call("scripted") == "access-1"
    assert machine.asked("/token")[0].form == {"grant_type": "account_credentials", "account_id": "abc"}


def test_a_refused_grant_names_the_setting_of_its_name(machine, configure, scripted_entry):
    machine.on("/token", Answer(400, {"error": "unsupported_grant_type"}))
    with pytest.raises(ProviderMisconfigured, match=r"'client_credentials'.* client_credentials\.grant_type"):
        machine_access_token("scripted")


@pytest.mark.compliance("CVE-2025-26620", "D59")
def test_whatever_is_asked_differently_is_another_token(machine, configure, scripted_entry):
    configure(PROVIDERS={"scripted": scripted_entry, "second": scripted_entry})
    asked: list[dict[str, Any]] = [
        {"provider": "scripted"},
        {"provider": "second"},
        {"provider": "scripted", "scopes": ["read"]},
        {"provider": "scripted", "scopes": ["READ"]},
        {"provider": "scripted", "scopes": ["read", "write"]},
        {"provider": "scripted", "resource": "https://a.example/"},
        {"provider": "scripted", "audience": "https://a.example/"},
    ]
    tokens = [machine_access_token(**what) for what in asked]

    assert len(set(tokens)) == len(asked)
    assert [machine_access_token(**what) for what in asked] == tokens
    assert machine_access_token("scripted", scopes=["write", "read"]) == tokens[4]


@pytest.mark.compliance("CVE-2025-26620", "D59")
@transactional
def test_parallel_callers_with_different_parameters_each_get_their_own(reports, calls_at_once):
    wanted = iter([["analytics"], ["profile"], ["analytics", "profile"]] * 4)

    def call() -> tuple[list[str], list[str]]:
        scopes = next(wanted)
        connection = machine_connection("reports", scopes)
        return scopes, [connection.access_token(), *connection.scopes]

    met = calls_at_once(12, call)

    assert all(scopes == granted for scopes, (_, *granted) in met)
    assert len({token for _, (token, *_) in met}) == 3
    assert reports.machine_requests == 3


@transactional
def test_parallel_callers_find_one_row_also_right_after_it_was_deleted(
    scripted, scripted_provider, calls_at_once
):
    """MariaDB keeps a deleted row in its index for a while, and parallel inserts deadlock over it."""
    for _ in range(10):
        Connection.objects.all().delete()
        wanted = iter([["analytics"], ["profile"], ["analytics", "profile"]] * 4)
        met = calls_at_once(12, lambda wanted=wanted: machine_connection("scripted", next(wanted)).pk)

        assert set(met) == set(Connection.objects.values_list("pk", flat=True))


def test_another_client_in_the_settings_gets_a_token_of_its_own(machine, configure, scripted_entry):
    old = machine_connection("scripted")
    assert old.access_token() == "access-1"
    configure(PROVIDERS={"scripted": {**scripted_entry, "client_id": "another"}})

    assert machine_access_token("scripted") == "access-2"
    with pytest.raises(ProviderMisconfigured, match="another client_id") as met:
        age(old, HOUR).access_token()
    assert met.value.error == "client_changed"
    assert len(machine.asked("/token")) == 2


# --- what is answered --------------------------------------------------------------------------


@pytest.mark.compliance("A20")
def test_a_refresh_token_in_the_answer_is_never_stored_nor_used(machine):
    answered = issued(1, refresh_token="canary-refresh", refresh_token_expires_in=9 * HOUR)
    machine.on("/token", answered, issued(2))
    connection = machine_connection("scripted")
    connection.access_token()

    stored = Connection.objects.get()
    assert (stored.token.refresh_token, stored.refresh_token_expires_at) == ("", None)
    assert "canary-refresh" not in str(stored.token.to_dict())

    age(stored, HOUR)
    assert machine_access_token("scripted") == "access-2"
    assert machine.asked("/token")[1].form["grant_type"] == "client_credentials"


@pytest.mark.compliance("A17")
def test_narrower_scopes_are_known_and_the_same_ones_are_asked_for_again(machine):
    machine.on("/token", issued(1, scope="read"), issued(2, scope="read write all"))
    connection = machine_connection("scripted", scopes=["read", "write"])
    connection.access_token()
    assert connection.scopes == ["read"]
    assert not Connection.objects.get().has_scopes("write")

    age(connection, HOUR)
    again = machine_connection("scripted", scopes=["read", "write"])
    again.access_token()
    assert [request.form["scope"] for request in machine.asked("/token")] == ["read write"] * 2
    assert again.scopes == ["read", "write"]  # never wider than asked for


@pytest.mark.compliance("A15")
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"access_token": ""},
        {"access_token": 5, "token_type": "Bearer"},
        {"access_token": "a", "token_type": "mac"},
        {"access_token": "a"},
        {"access_token": "a b\n", "token_type": "Bearer"},
    ],
)
def test_an_answer_that_is_no_token_stores_nothing_and_names_the_settings(machine, body):
    machine.on("/token", Answer(body=body), issued(2))

    for _ in range(2):  # the second reads it from the row
        with pytest.raises(ProviderMisconfigured, match=r"scripted\.token_response"):
            machine_access_token("scripted")

    row = Connection.objects.get()
    assert (row.sealed_token, row.status, row.last_error) == (None, "active", "malformed_token_response")
    assert ProviderState.objects.get().alarm == "malformed_token_response"


def test_an_answer_that_is_no_object_stores_nothing(machine):
    machine.on("/token", Answer(body=[]), issued(2))

    with pytest.raises(ProviderUnavailable):
        machine_access_token("scripted")

    row = Connection.objects.get()
    assert (row.sealed_token, row.status, row.last_error) == (None, "active", "malformed_response")


@pytest.mark.compliance("A16")
@pytest.mark.parametrize("said", [None, 0, -5, "soon", 10**30, True, "NaN"])
def test_an_odd_lifetime_is_none_and_the_token_serves_until_it_is_refused(machine, said):
    machine.on("/token", issued(1, expires_in=said), issued(2))
    machine.on("/api/figures", Answer(body={}), Answer(401), Answer(body={}))
    connection = machine_connection("scripted")
    assert connection.session().get("figures").ok
    assert connection.expires_at is None

    assert age(connection, HOUR).session().get("figures").ok
    assert [call.headers["Authorization"] for call in machine.asked("/api/figures")] == [
        "Bearer access-1",
        "Bearer access-1",
        "Bearer access-2",
    ]


# --- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.compliance("A19")
@pytest.mark.parametrize(
    ("status", "error", "alarm"),
    [
        (401, "invalid_client", True),
        (400, "unauthorized_client", True),
        (400, "unsupported_grant_type", True),
        (400, "invalid_scope", False),
        (400, "invalid_target", False),
        (400, "invalid_grant", False),
        (403, "access_denied", False),
    ],
)
def test_a_refusal_is_for_the_settings_and_never_for_a_user(machine, monkeypatch, status, error, alarm):
    long_back_offs(monkeypatch)
    answered = Answer(status, {"error": error, "error_description": "Not you"})
    machine.on("/token", answered, issued(2))
    connection = machine_connection("scripted")

    for _ in range(2):  # the second meets the back-off, and is told the same
        with pytest.raises(ProviderMisconfigured, match=error) as met:
            connection.session().get("figures")
        assert met.value.error == error
    assert len(machine.asked("/token")) == 1
    assert Connection.objects.get().status == "active"
    assert ProviderState.objects.exclude(alarm="").exists() is alarm

    connection.refresh()  # insists
    assert connection.session().get("figures").ok
    assert not ProviderState.objects.exclude(alarm="").exists()


@pytest.mark.parametrize(
    "ill", [Answer(503), Answer(200, cut=3, body={"access_token": "lost"}), Answer(reset=True)]
)
def test_a_lost_answer_leaves_nothing_in_doubt(machine, ill):
    machine.on("/token", ill, issued(2))

    with pytest.raises(ProviderUnavailable):
        machine_access_token("scripted")
    row = Connection.objects.get()
    assert (row.in_doubt, row.failures, row.status) == (False, 1, "active")

    row.refresh()
    assert machine_access_token("scripted") == "access-2"


def test_while_the_token_is_valid_a_failing_provider_fails_no_call(machine, configure):
    configure(REFRESH_LEEWAY=900)
    connection = machine_connection("scripted")
    connection.access_token()
    machine.on("/token", Answer(503))

    assert age(connection, HOUR - 800).session().get("figures").ok
    assert Connection.objects.get().failures == 1


@pytest.mark.compliance("D61")
def test_a_disabled_provider_creates_no_row(machine, configure, scripted_entry):
    configure(PROVIDERS={"scripted": {**scripted_entry, "enabled": False}})

    with pytest.raises(ProviderMisconfigured, match="disabled"):
        machine_session("scripted")
    assert not Connection.objects.exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"client_secret": ""}, r"scripted\.client_secret: missing"),
        ({"token_endpoint_auth_method": "none"}, r"scripted\.token_endpoint_auth_method"),
        ({"grant_types": ["authorization_code"]}, r"scripted\.grant_types: without client_credentials"),
        ({"token_endpoint": ""}, r"token_endpoint: missing"),
        (
            {
                "token_endpoint": "https://{tenant}.example/token",
                "variables": {"tenant": {"pattern": r"\w+"}},
            },
            r"scripted\.variables\.tenant: missing",
        ),
    ],
)
def test_an_entry_that_cannot_do_this_is_named(machine, configure, scripted_entry, changes, named):
    configure(PROVIDERS={"scripted": {**scripted_entry, **changes}})

    with pytest.raises(ImproperlyConfigured, match=named):
        machine_session("scripted")
    assert (Connection.objects.exists(), machine.requests) == (False, [])


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"scopes": "read"}, TypeError, "scopes: pass a list"),
        ({"scopes": ["read write"]}, ValueError, "not one scope"),
        ({"scopes": ["é"]}, ValueError, "not one scope"),
        ({"scopes": [5]}, ValueError, "not one scope"),
        ({"resource": "/v1"}, ValueError, "absolute URI"),
        ({"resource": "https://api.example/#top"}, ValueError, "without a fragment"),
        ({"resource": "https://api.example/#"}, ValueError, "without a fragment"),
        ({"resource": "https://[::1"}, ValueError, "absolute URI"),
        ({"resource": "https://api.example/\n"}, ValueError, "absolute URI"),
        ({"audience": "a\x00"}, ValueError, "audience"),
    ],
)
@pytest.mark.compliance("A28")
def test_arguments_that_cannot_be_sent_are_refused(machine, arguments, error, named):
    with pytest.raises(error, match=named):
        machine_session("scripted", **arguments)
    assert (Connection.objects.exists(), machine.requests) == (False, [])


# --- the life of its row -----------------------------------------------------------------------


def test_a_machine_token_is_never_due(machine):
    connection = machine_connection("scripted")
    connection.access_token()
    assert Connection.objects.get().refresh_at is None
    machine.on("/token", Answer(503))
    age(connection, HOUR)
    with pytest.raises(ProviderUnavailable):
        machine_access_token("scripted")

    assert Connection.objects.get().refresh_at is not None  # its back-off
    assert not Connection.objects.due(timedelta(days=99)).exists()
    call_command("oauth_refresh", verbosity=0)
    assert len(machine.asked("/token")) == 2


@pytest.mark.compliance("D40")
@pytest.mark.parametrize("seconds", [0, "0", -5, 1, 5], ids=repr)
def test_a_token_of_a_few_seconds_is_asked_for_again_at_each_401(machine, seconds):
    """It may have expired. The rule for others would return 401s to the site for five seconds."""
    machine.on("/token", *(issued(number, expires_in=seconds) for number in range(1, 5)))
    machine.on("/api/figures", Answer(body={}), *[Answer(401), Answer(body={})] * 3)
    http = machine_session("scripted")
    assert [http.get("figures").status_code for _ in range(4)] == [200] * 4
    assert len(machine.asked("/token")) == 4


def test_a_token_that_lives_longer_than_the_pause_is_not(machine):
    machine.on("/token", *(issued(number, expires_in=6) for number in range(1, 5)))
    machine.on("/api/figures", Answer(401))
    http = machine_session("scripted")
    assert [http.get("figures").status_code for _ in range(3)] == [401] * 3
    assert len(machine.asked("/token")) == 2


def test_a_session_outlives_its_deleted_row(machine):
    connection = machine_connection("scripted", scopes=["read"])
    http = connection.session()
    assert http.get("figures").ok
    Connection.objects.all().delete()
    machine.on("/api/figures", Answer(401), Answer(body={}))
    connection.__dict__.pop("_opened")
    age_in_hand(connection)

    assert http.get("figures").ok
    assert Connection.objects.get().requested_scopes == ["read"]
    assert [request.form["scope"] for request in machine.asked("/token")] == ["read", "read"]


def age_in_hand(connection: Connection) -> None:
    """The instance takes its token for an hour old; there is no row any more."""
    token = replace(connection.token, obtained_at=connection.token.obtained_at - timedelta(minutes=5))
    connection.sealed_token = token_columns(connection, token, None)["sealed_token"]


@transactional
def test_one_that_is_issued_while_staff_revokes_is_revoked_and_asked_for_again(machine):
    connection = machine_connection("scripted")
    connection.access_token()
    go_on = threading.Event()
    machine.on("/token", replace(issued(2), hold=go_on), issued(3))
    answered: list[str] = []

    with meanwhile(lambda: answered.append(age(connection, HOUR).access_token())):
        machine.wait_for("/token", 2)
        Connection.objects.get().disconnect()
        go_on.set()

    assert answered == ["access-3"]
    assert [request.form["token"] for request in machine.asked("/revoke")] == ["access-1", "access-2"]


def test_two_machine_tokens_of_one_provider_end_apart(machine, django_capture_on_commit_callbacks):
    one, other = (machine_connection("scripted", scopes=[scope]) for scope in ("read", "write"))
    one.access_token()
    other.access_token()

    with django_capture_on_commit_callbacks(execute=True):
        one.disconnect()

    assert [request.form["token"] for request in machine.asked("/revoke")] == ["access-1"]
    assert not PendingRevocation.objects.exists()
    assert Connection.objects.get(pk=other.pk).token.access_token == "access-2"


def test_a_users_connection_is_revoked_although_a_machine_token_lives(
    machine, make_connection, user, django_capture_on_commit_callbacks
):
    machine_access_token("scripted")
    connection = make_connection(owner=user, account_id="")

    with django_capture_on_commit_callbacks(execute=True):
        connection.disconnect()

    assert [request.form["token"] for request in machine.asked("/revoke")] == ["refresh-0"]


@pytest.mark.compliance("D57")
def test_no_user_has_it_nor_can_an_owner_be_made_that_has(machine, user, configure, rf):
    machine_access_token("scripted")

    assert not user.oauth_connections.exists()
    with pytest.raises(ReauthorizationRequired):
        connection_for(user, "scripted")
    configure(OWNER=lambda request: Owner("machine:scripted"))
    with pytest.raises(ValueError, match="machine:"):
        owner_of(rf.get("/"))


def test_what_happens_is_in_the_history_and_the_log_without_a_token(machine, caplog):
    with caplog.at_level(logging.DEBUG):
        machine_access_token("scripted")

    assert [event.action for event in ConnectionEvent.objects.all()] == ["refreshed"]
    assert "refreshed scripted" in caplog.text
    assert "access-1" not in caplog.text


def test_where_its_api_is_may_come_with_the_token(machine, configure, area):
    configure(PROVIDERS={"scripted": area})
    machine.on("/token", issued(1, instance="api"))

    assert machine_session("scripted").get("figures").json() == {"n": 1}
    assert Connection.objects.get().variables == {"area": "api"}


# --- transactions ------------------------------------------------------------------------------


@transactional
def test_a_transaction_that_is_rolled_back_takes_neither_row_nor_token_along(machine):
    with transaction.atomic():
        assert machine_access_token("scripted") == "access-1"
        transaction.set_rollback(True)
    wait_for_follow_ups()

    # SQLite has one writer: there the row was the caller's, and nothing was spent.
    kept = database.vendor != "sqlite"
    assert Connection.objects.exists() is kept
    assert machine_access_token("scripted") == ("access-1" if kept else "access-2")


@transactional
def test_inside_one_transaction_it_is_asked_for_once(machine):
    with transaction.atomic():
        Connection.objects.count()  # a snapshot, where the database takes one
        assert [machine_access_token("scripted") for _ in range(3)] == ["access-1"] * 3
    assert machine_access_token("scripted") == "access-1"
    assert len(machine.asked("/token")) == 1
