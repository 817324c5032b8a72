"""Refreshes of a row, and calls of its API."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from oauth_connect.errors import OwnerMismatch, ProviderMisconfigured
from oauth_connect.models import Connection
from oauth_connect.models.lifecycle import access
from tests.servers.scripted import Answer
from tests.support.aging import age
from tests.support.tokens import FRESH, stored

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]


@pytest.mark.compliance("A18")
@pytest.mark.compliance("D29")
@pytest.mark.parametrize(
    ("answered", "kept"),
    [({"refresh_token": "refresh-1"}, "refresh-1"), ({}, "refresh-0"), ({"refresh_token": ""}, "refresh-0")],
)
def test_a_refresh_is_in_the_row(make_connection, scripted, answered, kept: str) -> None:
    answer = {"access_token": "access-1", "token_type": "Bearer", "expires_in": 60, **answered}
    scripted.on("/token", Answer(body=answer))
    connection = make_connection()
    connection.refresh()
    for seen in (connection, stored(connection)):
        assert (seen.token.access_token, seen.token.refresh_token, seen.version) == ("access-1", kept, 1)


@pytest.mark.compliance("A22")
@pytest.mark.parametrize(("status", "refreshes", "calls"), [(401, 1, 2), (403, 0, 1)])
def test_only_a_401_refreshes_once_and_is_retried_once(
    make_connection, scripted, status: int, refreshes: int, calls: int
) -> None:
    insufficient = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/api/user", Answer(status, headers=insufficient))
    assert make_connection(age=600).session().get("user").status_code == status
    assert len(scripted.asked("/token")) == refreshes
    assert len(scripted.asked("/api/user")) == calls


@pytest.mark.compliance("D40")
@pytest.mark.parametrize("seconds", [0, 600], ids=["just connected", "connected before"])
def test_an_api_that_always_responds_401_causes_one_refresh(make_connection, scripted, seconds: int) -> None:
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/api/user", Answer(401))
    connection = make_connection(age=seconds)
    for _ in range(5):
        with stored(connection).session() as http:
            assert http.get("user").status_code == 401
    assert len(scripted.asked("/token")) == 1


@pytest.mark.compliance("D40")
def test_after_a_minute_a_401_causes_another_refresh(make_connection, scripted) -> None:
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/api/user", Answer(401))
    connection = make_connection()
    for number in (1, 2):
        for _ in range(2):
            stored(connection).session().get("user")
        assert len(scripted.asked("/token")) == number
        age(connection, 61)


def test_a_token_that_was_refreshed_for_another_reason_is_refreshed_on_a_401(
    make_connection, scripted
) -> None:
    """A provider may end its access tokens at any time, also one of a refresh just now."""
    scripted.on("/token", Answer(body=FRESH))
    connection = make_connection()
    connection.refresh()
    scripted.on("/api/user", Answer(401), Answer())
    assert stored(connection).session().get("user").status_code == 200
    assert len(scripted.asked("/token")) == 2


@pytest.mark.compliance("D35")
@pytest.mark.compliance("A16")
def test_a_token_of_unknown_expiry_is_refreshed_when_the_api_refuses_it(make_connection, scripted) -> None:
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/api/user", Answer(401), Answer(body={}))
    connection = make_connection(age=600, response={**FRESH, "expires_in": None})
    with connection.session() as http:
        assert http.get("user").status_code == 200
    assert scripted.asked("/api/user")[-1].headers["Authorization"] == "Bearer access-1"


@pytest.mark.compliance("D26")
@pytest.mark.parametrize("token", [5, ["a"], None, "", "a\nb"])
def test_a_malformed_access_token_leaves_the_old_one_in_use(make_connection, scripted, token: Any) -> None:
    scripted.on("/token", Answer(body={**FRESH, "access_token": token}))
    connection = make_connection(age=2800)
    assert connection.access_token(900) == "access-0"
    assert stored(connection).token.refresh_token == "refresh-1"
    assert (stored(connection).status, stored(connection).in_doubt) == ("active", False)


def test_a_disabled_provider_is_not_called(configure, scripted_entry, make_connection) -> None:
    connection = make_connection()
    configure(PROVIDERS={"scripted": {**scripted_entry, "enabled": False}})
    with pytest.raises(ProviderMisconfigured, match="disabled"):
        connection.session()


@pytest.mark.compliance("A17")
def test_a_narrower_refresh_narrows_what_is_stored(make_connection, scripted) -> None:
    scripted.on("/token", Answer(body={**FRESH, "scope": "x"}))
    connection = make_connection(response={**FRESH, "scope": "x y"})
    assert connection.has_scopes("x", "y")
    connection.refresh()
    assert stored(connection).scopes == ["x"]
    assert not stored(connection).has_scopes("y")


# --- a row that was loaded in part ----------------------------------------------------------------


PARTS = pytest.mark.parametrize(
    "select",
    [
        lambda rows: rows.only("pk"),
        lambda rows: rows.only("owner", "user", "sealed_token", "status"),
        lambda rows: rows.defer("version"),
    ],
    ids=["only the key", "only a few", "all but one"],
)
USES = pytest.mark.parametrize(
    "use",
    [
        lambda row: row.access_token(),
        lambda row: row.session().get("user"),
        lambda row: (row.refresh(), row.access_token()),
    ],
    ids=["access_token", "session", "refresh"],
)


@PARTS
def test_what_a_call_needs_is_loaded_with_one_query(
    make_connection, scripted, select, django_assert_num_queries
) -> None:
    connection = make_connection()
    part = select(Connection.objects).get(pk=connection.pk)
    with django_assert_num_queries(1):
        part.session()
        assert part.access_token() == "access-0"
        assert not part.get_deferred_fields() & access.NEEDED


@PARTS
def test_a_refresh_of_a_part_costs_one_query_more(make_connection, scripted, select) -> None:
    scripted.on("/token", Answer(body=FRESH))
    statements = []
    for load in (lambda rows: rows, select):
        row = load(Connection.objects).get(pk=make_connection().pk)
        with CaptureQueriesContext(database) as queries:
            row.refresh()
        statements.append(len(queries))
    assert statements[1] == statements[0] + 1


def test_what_no_call_needs_may_be_left_out(make_connection, scripted, django_assert_num_queries) -> None:
    scripted.on("/api/user", Answer(body={}))
    connection = make_connection()
    part = Connection.objects.defer("extra", "account_label", "identity").get(pk=connection.pk)
    with django_assert_num_queries(0):
        assert part.session().get("user").status_code == 200


@PARTS
@USES
def test_a_token_and_its_version_are_of_one_read(make_connection, scripted, select, use) -> None:
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/api/user", Answer(body={}))
    connection = make_connection()
    part = select(Connection.objects).get(pk=connection.pk)
    connection.refresh()
    use(part)
    present = stored(connection)
    assert (part.version, part.token.access_token) == (present.version, present.token.access_token)


@USES
def test_a_part_of_a_row_is_not_used_for_its_former_owner(make_connection, other_user, scripted, use) -> None:
    connection = make_connection()
    part = Connection.objects.only("owner", "user", "sealed_token").get(pk=connection.pk)
    stored(connection).move_to(other_user)
    with pytest.raises(OwnerMismatch, match="Load it again"):
        use(part)
    assert not scripted.requests


@USES
def test_a_call_loads_no_column_of_the_site_that_save_would_then_write(
    make_connection, scripted, use
) -> None:
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/api/user", Answer(body={}))
    connection = make_connection(extra={"team": 1})
    part = Connection.objects.only("account_label").get(pk=connection.pk)
    use(part)
    Connection.objects.filter(pk=connection.pk).update(extra={"team": 2}, variables={"site": "s-2"})
    part.account_label = "new"
    part.save()
    found = stored(connection)
    assert (found.account_label, found.extra, found.variables) == ("new", {"team": 2}, {"site": "s-2"})


def test_what_the_site_has_changed_stays(make_connection) -> None:
    connection = make_connection(account_label="old")
    part = Connection.objects.defer("status", "extra").get(pk=connection.pk)
    part.account_label, part.extra = "new", {"team": 1}
    part.session()
    assert (part.account_label, part.extra) == ("new", {"team": 1})
