"""The guards of the queryset, and its filters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db.models import F

from oauth_connect.models import Connection, Owner
from oauth_connect.models.querysets import ProtocolColumnsError
from oauth_connect.models.row import PROTOCOL_COLUMNS
from tests.support.tokens import FRESH, protocol_state, stored

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]

NOW = datetime.now(UTC)


# --- the guards ---------------------------------------------------------------------------------


@pytest.mark.parametrize("column", sorted(PROTOCOL_COLUMNS))
def test_update_refuses_the_protocols_columns(make_connection, column: str) -> None:
    connection = make_connection()
    before = protocol_state(connection)
    with pytest.raises(ProtocolColumnsError, match=column):
        Connection.objects.update(**{column: before[column]})
    with pytest.raises(ProtocolColumnsError, match=column):
        connection.user.oauth_connections.filter(pk=connection.pk).update(**{column: F("version")})
    assert protocol_state(connection) == before


@pytest.mark.parametrize("column", sorted(PROTOCOL_COLUMNS))
def test_bulk_update_refuses_the_protocols_columns(make_connection, column: str) -> None:
    with pytest.raises(ProtocolColumnsError, match=column):
        Connection.objects.bulk_update([make_connection()], ["account_label", column])


def test_bulk_create_over_existing_rows_refuses_the_protocols_columns(make_connection) -> None:
    connection = make_connection()
    with pytest.raises(ProtocolColumnsError, match="sealed_token"):
        Connection.objects.bulk_create(
            [connection], update_conflicts=True, update_fields=["sealed_token"], unique_fields=["id"]
        )


def test_the_sites_own_columns_can_be_updated(make_connection) -> None:
    connection = make_connection()
    assert Connection.objects.update(account_label="new") == 1
    connection.extra = {"team": 1}
    assert Connection.objects.bulk_update([connection], ["extra"]) == 1
    assert (stored(connection).account_label, stored(connection).extra) == ("new", {"team": 1})


# --- owners -------------------------------------------------------------------------------------


def test_connections_are_found_by_user_owner_and_key(make_connection, user, other_user) -> None:
    mine, theirs = make_connection(), make_connection(owner=other_user)
    for owner in (user, Owner.of(user), f"user:{user.pk}"):
        assert list(Connection.objects.for_owner(owner)) == [mine]
    assert list(Connection.objects.for_owner(other_user)) == [theirs]


@pytest.mark.parametrize("value", [None, AnonymousUser(), 5, object()])
def test_a_value_that_is_no_owner_is_refused(value) -> None:
    with pytest.raises(TypeError):
        Connection.objects.for_owner(value)


def test_a_user_that_is_not_saved_owns_nothing() -> None:
    unsaved = get_user_model()(username="x")
    unsaved.pk = None
    with pytest.raises(TypeError):
        Connection.objects.for_owner(unsaved)


def test_an_owner_need_not_be_a_user(make_connection) -> None:
    connection = make_connection(owner="team:1")
    assert (connection.owner, connection.user, connection.connected_by) == ("team:1", None, None)


def test_active_connections_are_due_when_their_time_has_come(make_connection) -> None:
    due = make_connection(age=3600)
    soon = make_connection(age=3000)
    make_connection(age=0)
    assert set(Connection.objects.due()) == {due}
    assert set(Connection.objects.due(within=timedelta(minutes=15))) == {due, soon}


@pytest.mark.parametrize("response", [{**FRESH, "refresh_token": ""}, {**FRESH, "expires_in": None}])
def test_a_token_that_cannot_or_need_not_be_refreshed_is_never_due(make_connection, response) -> None:
    connection = make_connection(age=9999, response=response)
    assert connection.refresh_at is None
    assert not Connection.objects.due(within=timedelta(days=9999)).exists()
