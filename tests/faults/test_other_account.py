"""A refresh whose ID token names another account: its token is not used, and nothing that arrived is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections, transaction

from oauth_connect import signals
from oauth_connect.errors import ProviderMisconfigured, ReauthorizationRequired
from oauth_connect.jobs.refresh import Due, refresh_due
from oauth_connect.models import Connection, ConnectionEvent, PendingRevocation, ProviderState
from tests.faults.processes import at_once, let_back_off_pass
from tests.servers.scripted import Answer
from tests.support.follow_ups import wait_for_follow_ups
from tests.support.tokens import EXPIRED, FRESH, id_token, raw, stored, tokens

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted_provider")]

CLAIMS = {"iss": "https://id.example", "aud": "client", "sub": "ada"}
OWN = id_token(**CLAIMS)
OTHER = id_token(**{**CLAIMS, "sub": "linus"})
ONLY_REFRESH_TOKEN = {"refresh_token": "refresh-1", "token_type": "Bearer", "id_token": OTHER}
MISCONFIGURED = {
    "id_token_issuer": id_token(**{**CLAIMS, "iss": "https://id.example/", "sub": "linus"}),
    "id_token_audience": id_token(**{**CLAIMS, "aud": ["another client"], "sub": "linus"}),
}
every_mismatch = pytest.mark.parametrize(("code", "wrong"), MISCONFIGURED.items(), ids=MISCONFIGURED)


@pytest.fixture
def connect(make_connection: Any) -> Callable[..., Connection]:
    """Connect an account; its access token has expired, and the provider gave an ID token."""

    def make(name: str = "0", **options: Any) -> Connection:
        response = tokens(name, id_token=OWN)
        connection: Connection = make_connection(**{"age": EXPIRED, "response": response, **options})
        return connection

    return make


@pytest.fixture
def revoked(scripted: Any) -> Callable[[], list[str]]:
    """Return the tokens that the provider was asked to revoke, in order."""
    scripted.on("/revoke", Answer(200))
    return lambda: [request.form["token"] for request in scripted.asked("/revoke")]


@pytest.fixture
def changed(connect: Any, scripted: Any) -> Callable[..., Connection]:
    """Return a connection whose refresh was answered for another account."""

    def make(name: str = "0", **options: Any) -> Connection:
        connection = connect(name, **options)
        scripted.on("/token", Answer(body=tokens(f"foreign-{name}", id_token=OTHER)))
        with pytest.raises(ReauthorizationRequired):
            stored(connection).access_token()
        return stored(connection)

    return make


def kept() -> list[str]:
    return sorted(one.open().refresh_token for one in PendingRevocation.objects.kept())


# --- another subject ---------------------------------------------------------------------------------


@pytest.mark.compliance("A39")
@pytest.mark.parametrize("body", [{**FRESH, "id_token": OTHER}, ONLY_REFRESH_TOKEN], ids=["usable", "odd"])
def test_another_account_marks_the_connection_and_only_its_refresh_token_is_kept(scripted, connect, body):
    scripted.on("/token", Answer(body=body))
    heard: list[tuple[str, str]] = []

    def receive(connection: Connection, code: str, **kwargs: Any) -> None:
        heard.append((connection.status, code))

    signals.reauthorization_required.connect(receive)
    try:
        connection = connect()
        expires_at = connection.expires_at
        with pytest.raises(ReauthorizationRequired, match="token of another account") as raised:
            connection.access_token()
        with pytest.raises(ReauthorizationRequired, match="token of another account"):
            stored(connection).refresh()
    finally:
        signals.reauthorization_required.disconnect(receive)

    assert (raised.value.reason, heard) == (
        "account_changed",
        [("reauthorization_required", "account_changed")],
    )
    row = stored(connection)
    assert (row.status, row.last_error) == ("reauthorization_required", "account_changed")
    assert (row.version, row.refresh_at, row.lease_owner, row.in_doubt) == (1, None, "", False)
    assert (row.token.refresh_token, row.token.access_token) == ("refresh-1", "access-0")
    assert (row.token.extra["id_token"], row.expires_at) == (OWN, expires_at)
    assert len(scripted.asked("/token")) == 1, "nothing is sent for a marked connection"
    assert ConnectionEvent.objects.filter(error="account_changed").count() == 1
    assert not ProviderState.objects.exclude(alarm="").exists(), "it is no alarm about the settings"


def test_the_user_is_asked_to_reconnect_also_while_the_access_token_is_valid(scripted, connect):
    scripted.on("/token", Answer(body={**FRESH, "id_token": OTHER}))
    connection = connect(age=3590)
    with pytest.raises(ReauthorizationRequired):
        connection.access_token()
    with pytest.raises(ReauthorizationRequired):
        stored(connection).session().get(f"{scripted.url}/api/me")
    assert not scripted.asked("/api/me")


def test_without_a_new_refresh_token_the_old_one_is_kept_to_be_revoked(scripted, connect):
    scripted.on("/token", Answer(body={**FRESH, "refresh_token": None, "id_token": OTHER}))
    connection = connect()
    with pytest.raises(ReauthorizationRequired):
        connection.access_token()
    row = stored(connection)
    assert (row.token.refresh_token, row.token.access_token, row.version) == ("refresh-0", "access-0", 1)


@pytest.mark.parametrize("other", [OTHER, *MISCONFIGURED.values()])
def test_a_connection_without_an_id_token_compares_nothing(scripted, connect, other):
    scripted.on("/token", Answer(body={**FRESH, "id_token": other}))
    connection = connect(response=tokens("0"))
    assert connection.access_token() == "access-1"
    assert stored(connection).status == "active"


@pytest.mark.parametrize("unreadable", ["opaque", "a.b.c.d.e", None, 7])
def test_an_unreadable_id_token_is_ignored_and_the_next_one_is_compared(scripted, connect, unreadable):
    first = Answer(body={**FRESH, "expires_in": 1, "id_token": unreadable})
    scripted.on("/token", first, Answer(body=tokens("2", id_token=OTHER)))
    connection = connect()
    connection.refresh()
    assert stored(connection).token.extra["id_token"] == OWN
    with pytest.raises(ReauthorizationRequired):
        stored(connection).refresh()


@pytest.mark.compliance("D30")
def test_callers_of_several_processes_are_all_asked_to_reconnect(scripted, connect, start):
    scripted.on("/token", Answer(body={**FRESH, "id_token": OTHER}))
    connection = connect()
    workers = at_once([start(connection, connection) for _ in range(3)])
    results = [(result["error"], result["code"]) for worker in workers for result in worker.results()]
    assert results == [("ReauthorizationRequired", "account_changed")] * 6
    assert len(scripted.asked("/token")) == 1


def test_inside_a_transaction_a_rollback_does_not_undo_it(scripted, connect):
    scripted.on("/token", Answer(body={**FRESH, "id_token": OTHER}))
    connection = connect()
    with pytest.raises(ReauthorizationRequired), transaction.atomic():
        stored(connection).access_token()
    wait_for_follow_ups()
    row = stored(connection)
    assert (row.status, row.last_error, row.version) == ("reauthorization_required", "account_changed", 1)
    assert row.token.refresh_token == "refresh-1"


def test_a_bulk_run_marks_it_and_refreshes_the_others(scripted, connect):
    scripted.on("/token", Answer(body={**FRESH, "id_token": OTHER}), Answer(body=tokens("2", id_token=OWN)))
    first, second = connect(age=EXPIRED * 2), connect()
    outcomes = {result.connection: (result.outcome, result.code) for result in refresh_due(Due(), workers=1)}
    assert outcomes == {
        first.pk: ("reauthorization_required", "account_changed"),
        second.pk: ("refreshed", ""),
    }
    row = stored(first)
    assert (row.status, row.token.refresh_token, row.refresh_at) == (
        "reauthorization_required",
        "refresh-1",
        None,
    )
    assert ConnectionEvent.objects.filter(connection_id=first.pk, error="account_changed").count() == 1
    assert not list(refresh_due(Due()))


# --- another issuer or audience ----------------------------------------------------------------------


@every_mismatch
def test_wrong_settings_mark_nobody_raise_an_alarm_and_keep_the_refresh_token(scripted, connect, code, wrong):
    scripted.on("/token", Answer(body={**FRESH, "id_token": wrong}), Answer(body=tokens("2", id_token=OWN)))
    connection = connect()
    with pytest.raises(ProviderMisconfigured) as raised:
        connection.access_token()
    assert raised.value.error == code
    assert "scripted.issuer" in str(raised.value)

    row = stored(connection)
    assert (row.status, row.version, row.failures, row.last_error) == ("active", 1, 1, code)
    assert (row.token.refresh_token, row.token.access_token, row.token.carried) == (
        "refresh-1",
        "access-0",
        True,
    )
    assert row.token.extra["id_token"] == OWN
    with pytest.raises(ProviderMisconfigured, match="ID token"):
        row.access_token()
    assert len(scripted.asked("/token")) == 1, "the pause holds"
    assert ProviderState.objects.get(provider="scripted").alarm == code

    let_back_off_pass(connection)
    assert stored(connection).access_token() == "access-2"
    assert scripted.asked("/token")[-1].form["refresh_token"] == "refresh-1"
    assert not ProviderState.objects.exclude(alarm="").exists()


@every_mismatch
@pytest.mark.parametrize("refresh_token", [None, "refresh-0"])
def test_without_a_new_refresh_token_it_is_a_failure_with_a_pause(
    scripted, connect, code, wrong, refresh_token
):
    scripted.on("/token", Answer(body={**FRESH, "refresh_token": refresh_token, "id_token": wrong}))
    connection = connect()
    for _ in range(2):
        with pytest.raises(ProviderMisconfigured):
            stored(connection).access_token()
    row = stored(connection)
    assert (row.status, row.version, row.failures, row.last_error) == ("active", 0, 1, code)
    assert (row.token.refresh_token, row.token.access_token) == ("refresh-0", "access-0")
    assert (row.in_doubt, len(scripted.asked("/token"))) == (False, 1)
    assert ProviderState.objects.get(provider="scripted").alarm == code


@every_mismatch
def test_meanwhile_an_access_token_that_is_valid_is_used(scripted, connect, code, wrong):
    scripted.on("/token", Answer(body={**FRESH, "id_token": wrong}))
    connection = connect(age=3590)
    assert connection.access_token() == "access-0"
    assert stored(connection).token.refresh_token == "refresh-1"


@every_mismatch
def test_a_bulk_run_raises_one_alarm_and_keeps_each_refresh_token(scripted, connect, code, wrong):
    answers = [Answer(body=tokens(f"new-{number}", id_token=wrong)) for number in range(3)]
    scripted.on("/token", *answers)
    for number in range(3):
        connect(str(number))
    outcomes = [(result.outcome, result.code) for result in refresh_due(Due(), workers=1)]
    assert outcomes == [("misconfigured", code)] * 3
    rows = Connection.objects.all()
    assert sorted(row.token.refresh_token for row in rows) == [f"refresh-new-{number}" for number in range(3)]
    assert {row.status for row in rows} == {"active"}
    assert ProviderState.objects.get(provider="scripted").alarm == code


def test_connections_without_an_id_token_do_not_end_that_alarm(scripted, connect, caplog):
    """Their refreshes succeed, and say nothing about the settings of the others."""
    wrong = MISCONFIGURED["id_token_issuer"]
    answers = [tokens(f"new-{number}", **({} if number % 2 else {"id_token": wrong})) for number in range(4)]
    scripted.on("/token", *[Answer(body=body) for body in answers])
    for number in range(4):  # those that are due longest come first
        name = str(number)
        response = tokens(name) if number % 2 else tokens(name, id_token=OWN)
        connect(name, response=response, age=EXPIRED * (4 - number))
    outcomes = [result.outcome for result in refresh_due(Due(), workers=1)]
    assert outcomes == ["misconfigured", "refreshed"] * 2
    assert ProviderState.objects.get(provider="scripted").alarm == "id_token_issuer"
    raised = [record for record in caplog.records if record.action == "provider_misconfigured"]
    assert len(raised) == 1


def test_with_the_issuer_corrected_the_connection_lives_on(scripted, connect, configure, scripted_entry):
    wrong = MISCONFIGURED["id_token_issuer"]
    scripted.on("/token", Answer(body={**FRESH, "id_token": wrong}), Answer(body=tokens("2", id_token=wrong)))
    connection = connect()
    with pytest.raises(ProviderMisconfigured):
        connection.refresh()
    configure(PROVIDERS={"scripted": {**scripted_entry, "issuer": "https://id.example/"}})
    stored(connection).refresh()
    assert stored(connection).token.extra["id_token"] == wrong


# --- how it ends -------------------------------------------------------------------------------------


def test_a_disconnect_revokes_it_where_no_connection_is_left(changed, revoked):
    changed().disconnect()
    assert revoked() == ["refresh-foreign-0"]
    assert not PendingRevocation.objects.exists()


def test_a_disconnect_keeps_it_while_any_connection_of_the_client_is_left(
    changed, connect, other_user, revoked
):
    """It may be the grant of any of them: the account is not known."""
    other = connect("other", owner=other_user)
    changed().disconnect()
    assert (revoked(), kept()) == ([], ["refresh-foreign-0"])

    other.disconnect()
    assert sorted(revoked()) == ["refresh-foreign-0", "refresh-other"]
    assert not PendingRevocation.objects.exists()


def test_a_reconnect_keeps_it_until_no_connection_is_left(changed, connect, other_user, revoked):
    first = changed(account_id="ada")
    other = connect("other", owner=other_user)
    connection = connect("new", account_id="ada")
    assert connection.pk == first.pk
    assert (connection.status, kept()) == ("active", ["refresh-foreign-0"])

    connection.disconnect()
    assert (revoked(), kept()) == (["refresh-new"], ["refresh-foreign-0"])
    other.disconnect()
    assert sorted(revoked()) == ["refresh-foreign-0", "refresh-new", "refresh-other"]


@pytest.mark.parametrize("alone", [True, False])
def test_a_deletion_leaves_it_to_prune(alone, changed, connect, other_user, revoked):
    if not alone:
        connect("other", owner=other_user)
    changed().delete()
    call_command("oauth_prune", verbosity=0)
    assert (revoked(), kept()) == ((["refresh-foreign-0"], []) if alone else ([], ["refresh-foreign-0"]))


@pytest.fixture
def ends_alone(scripted_provider: Any, configure: Any) -> None:
    configure(PROVIDERS={"scripted": {**scripted_provider, "revocation": {"effect": "token"}}})


@pytest.mark.usefixtures("ends_alone")
def test_where_a_token_ends_alone_a_disconnect_revokes_it(changed, connect, other_user, revoked):
    connect("other", owner=other_user)
    changed().disconnect()
    assert revoked() == ["refresh-foreign-0"]
    assert not PendingRevocation.objects.exists()


@pytest.mark.usefixtures("ends_alone")
def test_where_a_token_ends_alone_prune_revokes_what_a_reconnect_replaced(changed, connect, revoked):
    changed(account_id="ada")
    connect("new", account_id="ada")
    assert revoked() == []
    call_command("oauth_prune", verbosity=0)
    assert revoked() == ["refresh-foreign-0"]


@pytest.mark.usefixtures("ends_alone")
def test_the_very_token_that_another_owners_connection_has_is_not_revoked(
    changed, connect, other_user, revoked
):
    """The provider has mixed up two users, and both got the same answer."""
    other = connect("foreign-0", owner=other_user)
    changed().disconnect()
    assert (revoked(), stored(other).status) == ([], "active")


@pytest.mark.parametrize("shared", [True, False], ids=["another connection", "alone"])
def test_a_row_that_is_disconnected_meanwhile_leaves_no_token_behind(
    shared, scripted, connect, other_user, revoked
):
    connection = connect()
    if shared:
        connect("other", owner=other_user)

    def disconnect() -> None:
        stored(connection).disconnect()
        connections.close_all()  # those of the server's thread

    scripted.on("/token", Answer(body={**FRESH, "id_token": OTHER}, until=disconnect))
    with pytest.raises(ReauthorizationRequired, match="disconnected"):
        stored(connection).access_token()
    assert sorted(revoked()) == (["refresh-0"] if shared else ["refresh-0", "refresh-1"])
    assert kept() == (["refresh-1"] if shared else [])
    if shared:
        pending = PendingRevocation.objects.get()
        assert (pending.account_id, pending.account_changed) == (None, True)


def test_a_row_that_is_connected_again_meanwhile_keeps_both_tokens(scripted, connect):
    connection = connect(account_id="ada")

    def reconnect() -> None:
        connect("new", account_id="ada", age=0)
        connections.close_all()  # those of the server's thread

    scripted.on("/token", Answer(body={**FRESH, "id_token": OTHER}, until=reconnect))
    assert stored(connection).access_token() == "access-new"
    assert (stored(connection).status, kept()) == ("active", ["refresh-0", "refresh-1"])
    changed = {one.open().refresh_token: one.account_changed for one in PendingRevocation.objects.all()}
    assert changed == {"refresh-0": False, "refresh-1": True}


def test_a_late_answer_for_another_account_does_not_release_another_worker_s_lease(scripted, connect):
    connection = connect()

    def overtake() -> None:
        raw(connection).update(lease_owner="another", lease_until=2**50)
        connections.close_all()

    scripted.on("/token", Answer(body={**FRESH, "id_token": OTHER}, until=overtake))
    with pytest.raises(ReauthorizationRequired):
        stored(connection).access_token()
    row = stored(connection)
    assert (row.lease_owner, row.last_error, row.token.refresh_token) == (
        "another",
        "account_changed",
        "refresh-1",
    )
