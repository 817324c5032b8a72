"""Which of several accounts is used, and which one a new account replaces."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, connections

from oauth_connect.contrib.httpx import client_for
from oauth_connect.errors import AmbiguousConnection, ReauthorizationRequired
from oauth_connect.flows import aconnection_for, choice, connection_for, session_for
from oauth_connect.flows.account import Account
from oauth_connect.flows.choice import active_accounts, choose, replace_others
from oauth_connect.flows.storage import store_connection
from oauth_connect.models import Connection, Owner
from oauth_connect.protocol.token import Token
from tests.contrib.test_httpx import run
from tests.servers.scripted import Answer

pytestmark = pytest.mark.django_db


@pytest.fixture
def two(scripted_provider, make_connection):
    """Two active accounts of one user."""
    return [make_connection(account_id=name, account_label=name) for name in ("ada", "linus")]


@pytest.fixture
def ends(scripted):
    """Let the provider end a connection."""

    def end(connection):
        scripted.on("/token", Answer(400, {"error": "invalid_grant"}))
        with pytest.raises(ReauthorizationRequired):
            connection.refresh()

    return end


def test_several_accounts_are_ambiguous_and_the_error_leads_to_the_choice(user, two):
    with pytest.raises(AmbiguousConnection, match="choose_url") as ambiguous:
        session_for(user, "scripted")

    assert ambiguous.value.choose_url == "/oauth/scripted/accounts/"


def test_the_chosen_account_is_used_at_every_entry_point(user, two):
    choose(Owner.of(user), "scripted", two[1].pk)

    assert connection_for(user, "scripted") == two[1]
    with client_for(user, "scripted") as http:
        assert http.auth is not None


@pytest.mark.django_db(transaction=True)
def test_the_chosen_account_is_used_in_async_code(user, two):
    choose(Owner.of(user), "scripted", two[1].pk)

    async def find():
        return await aconnection_for(user, "scripted")

    assert run(find()) == two[1]


def test_the_newest_choice_counts(user, two):
    for connection in (*two, two[0]):
        choose(Owner.of(user), "scripted", connection.pk)

    assert connection_for(user, "scripted") == two[0]


def test_a_clock_that_was_ahead_does_not_keep_an_older_choice(user, two):
    choose(Owner.of(user), "scripted", two[0].pk)
    Connection.objects.filter(pk=two[0].pk).update(chosen_at=datetime.now(UTC) + timedelta(hours=1))

    choose(Owner.of(user), "scripted", two[1].pk)

    assert connection_for(user, "scripted") == two[1]


def test_where_one_account_is_active_it_is_used(user, two, ends):
    ends(two[0])

    assert connection_for(user, "scripted") == two[1]


def test_a_disconnected_account_does_not_count(user, two):
    choose(Owner.of(user), "scripted", two[0].pk)
    two[0].disconnect()

    assert connection_for(user, "scripted") == two[1]


def test_an_account_that_is_connected_again_is_not_chosen_any_more(user, two, make_connection):
    choose(Owner.of(user), "scripted", two[0].pk)
    two[0].disconnect()
    make_connection(account_id="ada")

    with pytest.raises(AmbiguousConnection):
        connection_for(user, "scripted")


def test_calls_do_not_move_to_another_account_when_the_chosen_one_ends(user, two, ends):
    choose(Owner.of(user), "scripted", two[0].pk)
    ends(two[0])

    with pytest.raises(ReauthorizationRequired) as required:
        connection_for(user, "scripted")
    assert required.value.connection == two[0]

    choose(Owner.of(user), "scripted", two[1].pk)
    assert connection_for(user, "scripted") == two[1]


def test_where_no_account_is_active_the_last_one_that_was_is_named(user, two, ends):
    ends(two[1])
    ends(two[0])

    with pytest.raises(ReauthorizationRequired) as required:
        connection_for(user, "scripted")
    assert required.value.connection == two[0]


def test_the_chosen_account_is_asked_for_a_scope_that_it_lacks(user, two, make_connection):
    granted = {"access_token": "access", "token_type": "Bearer", "scope": "repo"}
    make_connection(account_id="grace", response=granted)
    choose(Owner.of(user), "scripted", two[0].pk)

    with pytest.raises(ReauthorizationRequired) as required:
        connection_for(user, "scripted", scopes=["repo"])
    assert (required.value.reason, required.value.connection) == ("missing_scopes", two[0])


def test_another_owner_s_account_cannot_be_chosen(other_user, two):
    with pytest.raises(Connection.DoesNotExist):
        choose(Owner.of(other_user), "scripted", two[0].pk)

    assert not Connection.objects.filter(chosen_at__isnull=False).exists()


def test_an_account_that_must_be_connected_again_cannot_be_chosen(user, two, ends):
    ends(two[0])

    assert active_accounts(Owner.of(user), "scripted") == [two[1]]
    with pytest.raises(Connection.DoesNotExist):
        choose(Owner.of(user), "scripted", two[0].pk)


def test_an_account_that_is_disconnected_at_the_same_moment_is_not_chosen(user, two, monkeypatch):
    def read_then_lost(owner, provider):
        found = active_accounts(owner, provider)
        Connection.objects.get(pk=two[0].pk).disconnect()
        return found

    monkeypatch.setattr(choice, "active_accounts", read_then_lost)

    with pytest.raises(Connection.DoesNotExist):
        choose(Owner.of(user), "scripted", two[0].pk)

    assert Connection.objects.get(pk=two[0].pk).chosen_at is None


def test_a_stale_instance_that_is_saved_does_not_undo_the_choice(user, two):
    stale = Connection.objects.get(pk=two[0].pk)
    choose(Owner.of(user), "scripted", two[0].pk)

    stale.account_label = "renamed"
    stale.save()

    assert connection_for(user, "scripted") == two[0]


def test_who_gets_a_connection_has_not_chosen_it(user, other_user, two):
    choose(Owner.of(user), "scripted", two[0].pk)

    two[0].move_to(other_user)

    assert Connection.objects.get(pk=two[0].pk).chosen_at is None


# --- one account ----------------------------------------------------------------------------------


@pytest.fixture
def one_account(scripted, scripted_entry, configure):
    configure(PROVIDERS={"scripted": {**scripted_entry, "one_account": True}})
    scripted.on("/revoke", Answer())


def connect(user, account_id):
    token = Token(f"access-{account_id}", datetime.now(UTC), refresh_token=f"refresh-{account_id}")
    return store_connection(token, Account(account_id, account_id), owner=user, provider="scripted")


def active():
    return [row.account_id for row in Connection.objects.filter(status="active")]


@pytest.mark.django_db(transaction=True)
def test_flows_that_end_in_parallel_leave_one_account(user, one_account, make_connection, monkeypatch):
    """Both have stored their account before either replaces the other."""
    make_connection(account_id="0")
    stored = threading.Barrier(2)
    replace = choice.replace_others

    def replace_together(*args, **options):
        stored.wait(60)
        replace(*args, **options)

    monkeypatch.setattr("oauth_connect.flows.storage.replace_others", replace_together)

    def flow(account_id):
        try:
            connect(user, account_id)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=flow, args=(name,)) for name in ("1", "2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert active() in (["1"], ["2"])


def test_an_account_that_was_replaced_meanwhile_replaces_nothing(user, one_account, make_connection):
    first, second = make_connection(account_id="1"), make_connection(account_id="2")
    replace_others(Owner.of(user), second)

    replace_others(Owner.of(user), first)

    assert active() == ["2"]


def test_an_account_of_another_owner_or_provider_is_not_replaced(
    user, other_user, scripted_entry, one_account, make_connection, configure
):
    entry = {**scripted_entry, "one_account": True}
    configure(PROVIDERS={"scripted": entry, "another": entry})
    make_connection(owner=other_user, account_id="theirs")
    make_connection("another", account_id="elsewhere")

    connect(user, "mine")

    assert sorted(active()) == ["elsewhere", "mine", "theirs"]


def test_the_new_account_stays_when_the_old_one_cannot_be_disconnected(
    user, one_account, make_connection, monkeypatch, caplog
):
    make_connection(account_id="1")

    def fail(*args, **options):
        raise DatabaseError("secret words of a driver")

    monkeypatch.setattr(Connection, "disconnect", fail)
    with caplog.at_level(logging.WARNING, "oauth_connect"):
        connect(user, "2")

    assert sorted(active()) == ["1", "2"]
    assert [record.action for record in caplog.records] == ["replace_failed"]
    assert "secret words" not in caplog.text
