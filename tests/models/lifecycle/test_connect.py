"""Storing a connection creates a row, or stores the new token in the row of the same account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from oauth_connect.errors import (
    InvalidProvider,
    ProviderUnavailable,
)
from oauth_connect.models import Connection
from oauth_connect.models.lifecycle import connect
from oauth_connect.models.querysets import ProtocolColumnsError
from oauth_connect.models.row import PROTOCOL_COLUMNS
from oauth_connect.protocol.token import Token
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
    with pytest.raises(ProviderUnavailable):
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


@pytest.mark.parametrize("column", sorted(PROTOCOL_COLUMNS - {"redirect_uri", "client_id"}))
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
