"""Storing a connection creates a row, or stores the new token in the row of the same account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db.models import Manager, QuerySet

from oauth_connect.errors import (
    InvalidProvider,
    ProviderMisconfigured,
)
from oauth_connect.models import Connection, ConnectionEvent, Owner, PendingRevocation
from oauth_connect.models.lifecycle import connect, history
from oauth_connect.models.querysets import ProtocolColumnsError
from oauth_connect.models.row import PROTOCOL_COLUMNS, rows_of
from oauth_connect.protocol.token import Token
from tests.servers.scripted import Answer
from tests.support.tokens import FRESH, stored

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]

NOW = datetime.now(UTC)


def test_store_makes_a_connection_of_a_raw_response(user) -> None:
    connection = Connection.objects.store(
        owner=user,
        provider="scripted",
        token_response={**FRESH, "scope": "x y", "team": {"id": "T1"}},
        account_id="42",
        account_label="grace",
        obtained_at=NOW,
        extra={"site": 1},
    )
    found = stored(connection)
    assert (found.owner, found.user, found.connected_by) == (f"user:{user.pk}", user, user)
    assert (found.account_id, found.account_label, found.client_id) == ("42", "grace", "client")
    assert (found.scopes, found.extra, found.status, found.version) == (["x", "y"], {"site": 1}, "active", 0)
    assert (found.token.access_token, found.token.extra) == ("access-1", {"team": {"id": "T1"}})
    assert found.expires_at == NOW + timedelta(hours=1)
    assert NOW + timedelta(minutes=58) < found.refresh_at < NOW + timedelta(minutes=59)


@pytest.mark.parametrize("given", [{"team": "T1", "data": FRESH}, FRESH], ids=["the response", "its part"])
def test_a_response_is_stored_as_the_provider_sent_it(user, configure, scripted_entry, given) -> None:
    configure(PROVIDERS={"scripted": {**scripted_entry, "token_response": {"path": ["data"]}}})
    connection = Connection.objects.store(owner=user, provider="scripted", token_response=given)
    token = stored(connection).token
    assert (token.access_token, token.extra.get("team")) == ("access-1", given.get("team"))


def test_store_takes_a_token_as_well(user) -> None:
    token = Token("a", NOW, refresh_token="r", scopes=("x",))
    connection = Connection.objects.store(owner=user, provider="scripted", token_response=token)
    assert stored(connection).token == token


@pytest.mark.compliance("A17")
@pytest.mark.compliance("C-empty-scope")
@pytest.mark.parametrize(
    ("said", "granted"),
    [({}, True), ({"scope": "x"}, False), ({"scope": ""}, False), ({"scope": "x y z"}, True)],
)
def test_a_scope_that_was_not_granted_is_missing(
    configure, scripted_entry, user, said, granted: bool
) -> None:
    configure(PROVIDERS={"scripted": {**scripted_entry, "scopes": ["x", "y"]}})
    response = {**FRESH, **said}
    connection = Connection.objects.store(owner=user, provider="scripted", token_response=response)
    assert connection.has_scopes("x", "y") is granted
    assert not connection.has_scopes("z")


@pytest.mark.compliance("A15")
@pytest.mark.parametrize("response", [{}, {**FRESH, "access_token": None}, {**FRESH, "token_type": "mac"}])
def test_a_response_without_a_token_is_not_stored(user, response) -> None:
    with pytest.raises(ProviderMisconfigured):
        Connection.objects.store(owner=user, provider="scripted", token_response=response)
    assert not Connection.objects.exists()


@pytest.mark.compliance("D19")
@pytest.mark.parametrize("scope", ["x\x00", "\ud800", "x\x00 y"])
def test_a_scope_that_no_database_accepts_does_not_lose_the_token(make_connection, scope: str) -> None:
    connection = make_connection(response={**FRESH, "scope": scope, "note": f"\x00{scope}"})
    assert stored(connection).token.refresh_token == "refresh-1"


@pytest.mark.compliance("D58")
def test_a_long_token_is_stored_whole(make_connection) -> None:
    long = "x" * 32_768
    connection = make_connection(response={**FRESH, "access_token": long, "refresh_token": long})
    assert (stored(connection).token.access_token, stored(connection).token.refresh_token) == (long, long)


def test_a_second_store_changes_the_same_connection(make_connection) -> None:
    first = make_connection(account_id="1", account_label="old")
    again = make_connection(account_id="1", response={**FRESH, "access_token": "newer"})
    assert again.pk == first.pk
    assert (again.token.access_token, again.version, again.account_label) == ("newer", 1, "old")
    assert Connection.objects.count() == 1


def test_a_second_store_clears_a_mark_and_ends_every_lease(make_connection) -> None:
    connection = make_connection(account_id="1")
    connection.status, connection.lease_owner = Connection.Status.REAUTHORIZATION_REQUIRED, "another"
    connection.failures, connection.last_error, connection.in_doubt = 3, "revoked", True
    names = ["status", "lease_owner", "failures", "last_error", "in_doubt"]
    connection.save(update_fields=names)
    renewed = make_connection(account_id="1")
    assert [getattr(renewed, name) for name in names] == ["active", "", 0, "", False]


@pytest.mark.compliance("A18")
@pytest.mark.parametrize(("client_id", "kept"), [("client", "refresh-1"), ("another", "")])
def test_a_consent_without_a_refresh_token_keeps_the_one_of_the_same_app(
    configure, scripted_entry, make_connection, client_id: str, kept: str
) -> None:
    make_connection(account_id="1", response=FRESH)
    configure(PROVIDERS={"scripted": {**scripted_entry, "client_id": client_id}})
    renewed = make_connection(account_id="1", response={**FRESH, "refresh_token": None})
    assert (renewed.token.refresh_token, renewed.client_id) == (kept, client_id)


@pytest.mark.parametrize(
    "column", sorted(PROTOCOL_COLUMNS - {"redirect_uri", "client_id", "requested_scopes"})
)
def test_store_takes_no_column_of_the_protocol(user, column: str) -> None:
    with pytest.raises((ProtocolColumnsError, TypeError)):
        Connection.objects.store(owner=user, provider="scripted", token_response=FRESH, **{column: "x"})


def test_a_variable_that_does_not_fit_is_refused(configure, scripted_entry, user) -> None:
    tenants = {"tenant": {"pattern": "[a-z]+"}}
    configure(PROVIDERS={"scripted": {**scripted_entry, "variables": tenants}})
    with pytest.raises(InvalidProvider, match="tenant"):
        Connection.objects.store(
            owner=user, provider="scripted", token_response=FRESH, variables={"tenant": "a/b"}
        )


def test_simultaneous_stores_end_in_one_row(make_connection, monkeypatch) -> None:
    """Another process inserts the row between our read and our INSERT."""
    rival = make_connection(account_id="1")
    reads = iter([lambda *args: None, connect._renew])
    monkeypatch.setattr(connect, "_renew", lambda *args: next(reads)(*args))
    connection = make_connection(account_id="1", response={**FRESH, "access_token": "newer"})
    assert connection.pk == rival.pk
    assert stored(rival).token.access_token == "newer"


def test_only_a_refresh_moves_the_time_of_the_last_one(scripted, make_connection) -> None:
    connection = make_connection(account_id="7")
    assert connection.last_refreshed_at is None
    scripted.on("/token", Answer(body=FRESH))
    connection.refresh()
    refreshed = stored(connection).last_refreshed_at
    assert refreshed is not None
    assert make_connection(account_id="7").last_refreshed_at == refreshed


@pytest.mark.django_db(transaction=True)
def test_a_reconnect_whose_history_cannot_be_written_loses_no_token(
    make_connection, monkeypatch, caplog
) -> None:
    first = make_connection(account_id="1")

    def fail(*args) -> None:
        raise RuntimeError("no history")

    monkeypatch.setattr(history, "insert", fail)
    again = make_connection(account_id="1", response={**FRESH, "access_token": "newer"})

    assert (again.pk, stored(first).token.access_token, stored(first).version) == (first.pk, "newer", 1)
    assert PendingRevocation.objects.count() == 1, "the older token is kept once"
    assert ConnectionEvent.objects.count() == 1
    assert [record.action for record in caplog.records if hasattr(record, "action")] == ["history_failed"]


@pytest.mark.django_db(transaction=True)
def test_a_reconnect_and_its_history_are_one_commit(make_connection, monkeypatch) -> None:
    """If the process dies between the two, neither is there."""
    first = make_connection(account_id="1")

    def die(*args) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(history, "insert", die)
    with pytest.raises(KeyboardInterrupt):
        make_connection(account_id="1", response={**FRESH, "access_token": "newer"})

    assert stored(first).version == 0


@pytest.mark.parametrize(
    "changes",
    [{"version": 7}, {"status": "reauthorization_required"}, {"sealed_token": None, "status": "revoked"}],
    ids=["refreshed", "marked", "disconnected"],
)
def test_a_row_that_changes_after_it_was_read_is_read_again(
    make_connection, monkeypatch, user, changes
) -> None:
    first = make_connection()
    present = connect.look_up(Connection, Owner.of(user), "scripted", first.account_id, {user})
    rows_of(Connection, "default").filter(pk=first.pk).update(**changes)
    version = stored(first).version
    seen = []
    overwrite = connect._overwrite
    monkeypatch.setattr(connect, "_overwrite", lambda *args: seen.append(args[1].version) or overwrite(*args))
    again = store_found(first, user, present)

    assert seen == [0, version]
    assert (again.pk, again.version, stored(first).status) == (first.pk, version + 1, "active")


def test_a_row_that_is_handed_over_after_it_was_read_keeps_its_new_owner_s_token(
    make_connection, user, other_user
) -> None:
    first = make_connection()
    present = connect.look_up(Connection, Owner.of(user), "scripted", first.account_id, {user})
    stored(first).move_to(other_user)
    again = store_found(first, user, present)

    assert again.pk != first.pk
    assert (stored(first).user, stored(first).token) == (other_user, first.token)
    assert (again.user, again.token.access_token) == (user, "newer")


def store_found(first, user, present):
    return connect.store(
        QuerySet(Connection, using="default"),
        owner=Owner.of(user),
        provider="scripted",
        token_response={**FRESH, "access_token": "newer"},
        account_id=first.account_id,
        account_label="",
        connected_by=user,
        present=present,
    )


@pytest.mark.django_db(transaction=True)
def test_what_is_returned_is_what_is_stored(make_connection) -> None:
    make_connection(account_id="1")
    again = make_connection(account_id="1", response={**FRESH, "access_token": "newer", "scope": "x y"})
    row = stored(again)

    assert again.version == 1
    assert again.token == row.token
    for field in Connection._meta.concrete_fields:
        assert getattr(again, field.attname) == getattr(row, field.attname), field.name


@pytest.mark.parametrize("is_active", [True, False])
def test_the_users_are_looked_up_as_they_are_now(make_connection, user, other_user, is_active: bool) -> None:
    """With one user and with two, with a row and without."""
    first = make_connection()
    type(user).objects.filter(pk=user.pk).update(is_active=is_active)

    for account in (first.account_id, "another"):
        for users in ({user}, {user, other_user}):
            present = connect.look_up(Connection, Owner.of(user), "scripted", account, users)
            assert (present.row is not None, present.is_active) == (account == first.account_id, is_active)


# --- managers of the site's users -----------------------------------------------------------------


class PresentTenant(Manager):
    """Shows the users of the present tenant, as ``base_manager_name`` lets a site do it."""

    present = ""

    def get_queryset(self):
        return super().get_queryset().filter(email=self.present)


def test_a_manager_that_shows_other_users_at_each_query_is_asked_each_time(
    user, other_user, make_connection, monkeypatch
) -> None:
    tenants = PresentTenant()
    tenants.model = type(user)
    monkeypatch.setitem(vars(type(user)._meta), "base_manager", tenants)
    connect._lookup.cache_clear()
    for one in (user, other_user):
        tenants.present = f"{one.username}@example.com"
        type(user).objects.filter(pk=one.pk).update(email=tenants.present)
        make_connection(owner=one, account_id="1")
        assert connect.look_up(Connection, Owner.of(one), "scripted", "1", {one}).is_active
    connect._lookup.cache_clear()
