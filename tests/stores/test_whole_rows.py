"""Whole rows, compared with those of Django's own query."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection as database
from django.db.models import Q
from django.db.models.sql.compiler import SQLCompiler
from django.test.utils import CaptureQueriesContext

from oauth_connect.flows import connection_for, machine_connection
from oauth_connect.models import Connection
from oauth_connect.models.querysets import ConnectionManager
from oauth_connect.stores.whole_rows import rows_where
from tests.accounts.models import ProxyConnection, TaggedConnection
from tests.support.tokens import raw

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]
MOMENT = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC)


def columns(row: Any) -> dict[str, Any]:
    """Return the loaded columns of a row with their types."""
    names = [field.attname for field in row._meta.concrete_fields]
    return {name: (type(row.__dict__[name]), row.__dict__[name]) for name in names if name in row.__dict__}


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The SQL of each query that Django compiles from now on."""
    compiled: list[str] = []
    as_sql = SQLCompiler.as_sql

    def recorded(self: Any, *args: Any, **options: Any) -> Any:
        result = as_sql(self, *args, **options)
        compiled.append(result[0])
        return result

    monkeypatch.setattr(SQLCompiler, "as_sql", recorded)
    return compiled


# --- the row --------------------------------------------------------------------------------------


@pytest.mark.parametrize("filled", [True, False], ids=["with values", "with NULL"])
def test_each_column_has_the_value_and_the_type_that_django_gives_it(
    make_connection: Any, user: Any, filled: bool
) -> None:
    connection = make_connection(variables={"tenant": "é"} if filled else {}, connected_by=user)
    moments = {
        field.attname: MOMENT if filled or not field.null else None
        for field in Connection._meta.concrete_fields
        if field.get_internal_type() == "DateTimeField"
    }
    raw(connection).update(**moments, extra={"a": [1, None, "é"]}, in_doubt=filled, lease_until=2**40)
    if not filled:
        raw(connection).update(sealed_token=None, user=None, connected_by=None, owner="org:1")
    expected = raw(connection).get()
    for found in (
        Connection.objects.get(pk=connection.pk),
        *rows_where(Connection, "default", owner=expected.owner, user=expected.user_id),
    ):
        assert columns(found) == columns(expected)
        assert (found._state.db, found._state.adding) == ("default", False)


def test_it_finds_the_rows_that_filter_finds(make_connection: Any, other_user: Any) -> None:
    made = [make_connection(account_id=name) for name in ("abc", "ABC")]
    made += [make_connection(owner=owner) for owner in (other_user, "org:1", "ORG:1")]
    for row in made:
        values = {"owner": row.owner, "user": row.user_id, "provider": "scripted"}
        found = {one.pk for one in rows_where(Connection, "default", **values)}
        assert found == {one.pk for one in Connection._base_manager.filter(**values)}
    assert rows_where(Connection, "default", owner="nobody") == []


@pytest.mark.django_db(databases=["default", "other"])
def test_it_reads_the_database_that_is_named(make_connection: Any) -> None:
    connection = make_connection()
    assert rows_where(Connection, "other", id=connection.pk) == []
    with pytest.raises(Connection.DoesNotExist):
        Connection.objects.db_manager("other").get(pk=connection.pk)


# --- get() ----------------------------------------------------------------------------------------


def test_get_is_one_query_that_is_compiled_once(
    make_connection: Any, compiles: list[str], django_assert_num_queries: Any
) -> None:
    connection = make_connection()
    Connection.objects.get(pk=connection.pk)
    compiles.clear()
    for load in (Connection.objects.get, Connection.objects.all().get):
        for key in ({"pk": connection.pk}, {"id": connection.pk}, {"pk": connection.pk.hex}):
            with django_assert_num_queries(1):
                assert load(**key).token.access_token == "access-0"
    assert not compiles


def test_the_functions_for_a_call_compile_nothing(
    make_connection: Any, user: Any, compiles: list[str], configure: Any, scripted_entry: Any
) -> None:
    make_connection()
    configure(PROVIDERS={"scripted": {**scripted_entry, "grant_types": ["client_credentials"]}})
    for call in (lambda: connection_for(user, "scripted"), lambda: machine_connection("scripted")):
        call()
        compiles.clear()
        with CaptureQueriesContext(database) as queries:
            call()
        assert (len(queries), compiles) == (1, [])


@pytest.mark.parametrize(
    ("pk", "error"),
    [
        (uuid.UUID(int=1), Connection.DoesNotExist),
        (None, Connection.DoesNotExist),
        ("no uuid", ValidationError),
        (1.5, ValidationError),
    ],
)
def test_get_raises_what_django_raises(make_connection: Any, pk: Any, error: type[Exception]) -> None:
    make_connection()
    for manager in (Connection._base_manager, Connection.objects):
        with pytest.raises(error):
            manager.get(pk=pk)


def test_get_by_a_subquery_is_django_s_own(make_connection: Any) -> None:
    connection = make_connection()
    assert Connection.objects.get(pk=Connection.objects.values("pk")[:1]) == connection


class ActiveManager(ConnectionManager[Connection]):
    """A site's manager, which leaves rows out."""

    def get_queryset(self) -> Any:
        return super().get_queryset().filter(status="active")


def site_s_manager() -> Any:
    manager = ActiveManager()
    manager.model = Connection
    return manager


def changed_in_place() -> Any:
    rows = Connection.objects.all()
    rows.query.add_q(Q(status="active"))
    return rows


@pytest.mark.parametrize(
    "rows",
    [
        lambda: Connection.objects.filter(status="active"),
        lambda: Connection.objects.exclude(status="revoked"),
        lambda: Connection.objects.none(),
        site_s_manager,
        changed_in_place,
    ],
    ids=["filter", "exclude", "none", "a site's manager", "a query changed in place"],
)
def test_get_finds_no_row_that_was_filtered_out(make_connection: Any, rows: Callable[[], Any]) -> None:
    connection = make_connection()
    raw(connection).update(status="revoked")
    with pytest.raises(Connection.DoesNotExist):
        rows().get(pk=connection.pk)


@pytest.mark.compliance("D57")
def test_a_user_s_own_connections_hold_no_other_user_s(make_connection: Any, other_user: Any) -> None:
    connection = make_connection()
    with pytest.raises(Connection.DoesNotExist):
        other_user.oauth_connections.get(pk=connection.pk)
    assert connection.user.oauth_connections.get(pk=connection.pk) == connection


def test_get_after_only_loads_those_columns(make_connection: Any) -> None:
    connection = make_connection()
    part = Connection.objects.only("provider").get(pk=connection.pk)
    assert columns(part).keys() == {"id", "provider"}


@pytest.mark.parametrize("model", [ProxyConnection, TaggedConnection], ids=["proxy", "child"])
def test_get_returns_a_subclass_with_its_own_columns(model: Any, user: Any) -> None:
    response = {"access_token": "access-0", "token_type": "Bearer"}
    stored = model.objects.store(owner=user, provider="scripted", token_response=response)
    found = model.objects.get(pk=stored.pk)
    assert type(found) is model
    assert columns(found) == columns(model._base_manager.get(pk=stored.pk))
