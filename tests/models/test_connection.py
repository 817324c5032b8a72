"""Saving, copying and loading a connection, its token, and its database."""

from __future__ import annotations

import copy
import json
import pickle
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from django.contrib.auth import get_user_model
from django.core import serializers
from django.core.exceptions import FieldError
from django.core.management import call_command
from django.db import DatabaseError, transaction
from django.db.models import QuerySet
from django.forms.models import model_to_dict

from oauth_connect.errors import (
    KeyUnavailable,
    ProviderMisconfigured,
    ReauthorizationRequired,
)
from oauth_connect.models import Connection, PendingRevocation
from oauth_connect.models.connection import SITE_FIELDS
from oauth_connect.models.row import CHOICE_COLUMNS, IDENTITY_COLUMNS, PROTOCOL_COLUMNS
from tests.servers.scripted import Answer
from tests.support.tokens import FRESH, protocol_state, raw, stored
from tests.test_crypto import OTHER

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]


# --- save ---------------------------------------------------------------------------------------


def spoiled(connection: Connection) -> Connection:
    """Set every column of the protocol to another value, as in a stale instance."""
    connection.sealed_token = None
    connection.version = 99
    connection.status = Connection.Status.REVOKED
    connection.client_id = connection.redirect_uri = connection.last_error = connection.lease_owner = "stale"
    connection.scopes = connection.requested_scopes = ["stale"]
    connection.expires_at = connection.refresh_at = connection.last_refreshed_at = None
    connection.refresh_token_expires_at = datetime.now(UTC)
    connection.failures = connection.lease_until = 99
    connection.in_doubt = True
    return connection


def test_every_column_is_the_sites_or_the_protocols_or_says_whose_it_is() -> None:
    columns = {field.name for field in Connection._meta.concrete_fields if not field.primary_key}
    assert columns | {"user_id"} == SITE_FIELDS | PROTOCOL_COLUMNS | IDENTITY_COLUMNS | CHOICE_COLUMNS
    assert not SITE_FIELDS & (PROTOCOL_COLUMNS | IDENTITY_COLUMNS | CHOICE_COLUMNS)


@pytest.mark.parametrize("using", [{}, {"using": "default"}, {"force_update": True}, {"update_fields": None}])
def test_saving_a_stale_instance_changes_the_sites_columns_only(make_connection, using) -> None:
    connection = make_connection()
    before = protocol_state(connection)
    stale = spoiled(Connection.objects.get(pk=connection.pk))
    stale.account_label = "new"
    stale.extra = {"team": 1}
    stale.save(**using)
    assert protocol_state(connection) == before
    assert (stored(connection).account_label, stored(connection).extra) == ("new", {"team": 1})


def test_saving_a_stale_instance_does_not_undo_the_choice_of_a_site(make_connection) -> None:
    connection = make_connection(variables={"site": ""})
    Connection.objects.filter(pk=connection.pk).update(variables={"site": "s-1"})
    connection.account_label = "new"
    connection.save()
    assert stored(connection).variables == {"site": "s-1"}


def test_saving_a_partly_loaded_instance_keeps_the_rest(make_connection) -> None:
    connection = make_connection(account_label="old")
    before = protocol_state(connection)
    partly = Connection.objects.only("extra").get(pk=connection.pk)
    partly.extra = {"team": 1}
    partly.save()
    assert protocol_state(connection) == before
    assert (stored(connection).account_label, stored(connection).extra) == ("old", {"team": 1})


def test_a_guard_is_not_passed_by_position(make_connection) -> None:
    with pytest.raises(TypeError):
        spoiled(make_connection()).save(False, False)


def test_a_column_of_the_protocol_is_saved_where_it_is_named(make_connection) -> None:
    connection = make_connection()
    connection.status = Connection.Status.REAUTHORIZATION_REQUIRED
    connection.save(update_fields=["status"])
    assert stored(connection).status == "reauthorization_required"


def test_saving_a_deleted_row_does_not_bring_it_back(make_connection) -> None:
    connection = make_connection()
    Connection.objects.all().delete()
    with pytest.raises(DatabaseError), transaction.atomic():
        connection.save()
    assert not Connection.objects.exists()


# --- the token ----------------------------------------------------------------------------------


def test_a_token_is_opened_once_and_again_when_it_changes(make_connection) -> None:
    connection = make_connection(account_id="1")
    first = connection.token
    assert connection.token is first
    connection.sealed_token = make_connection(account_id="1", response=FRESH).sealed_token
    assert connection.token.access_token == "access-1"


def test_without_a_token_there_is_a_way_to_get_one(make_connection) -> None:
    connection = make_connection()
    connection.sealed_token = None
    with pytest.raises(ReauthorizationRequired) as raised:
        _ = connection.token
    assert (raised.value.reason, raised.value.connection) == ("disconnected", connection)
    assert raised.value.connect_url.endswith(f"connect/?connection={connection.pk}")


@pytest.mark.compliance("D44")
def test_a_ciphertext_of_another_row_is_refused(make_connection, other_user) -> None:
    mine, theirs = make_connection(), make_connection(owner=other_user)
    QuerySet(Connection).filter(pk=mine.pk).update(sealed_token=theirs.sealed_token)
    with pytest.raises(KeyUnavailable, match="copied"):
        _ = stored(mine).token
    assert stored(theirs).token.access_token == "access-0"


@pytest.mark.compliance("D44")
def test_a_ciphertext_of_another_table_is_refused(make_connection) -> None:
    connection = make_connection()
    pending = PendingRevocation.of(connection)
    pending.pk = connection.pk
    pending.seal(connection.token)
    QuerySet(Connection).filter(pk=connection.pk).update(sealed_token=pending.sealed_token)
    with pytest.raises(KeyUnavailable, match="copied"):
        _ = stored(connection).token


@pytest.mark.compliance("D44")
def test_a_token_is_not_used_at_another_provider(configure, scripted_entry, make_connection) -> None:
    connection = make_connection()
    configure(PROVIDERS={"scripted": scripted_entry, "evil": scripted_entry})
    raw(connection).update(provider="evil")
    with pytest.raises(KeyUnavailable, match="copied"):
        stored(connection).session().get("user")


@pytest.mark.compliance("D43")
@pytest.mark.parametrize("keys", [[OTHER], [], None])
@pytest.mark.parametrize(
    "use",
    [
        lambda connection: connection.token,
        lambda connection: connection.access_token(),
        lambda connection: connection.session().get("user"),
        lambda connection: connection.refresh(),
    ],
    ids=["token", "access_token", "session", "refresh"],
)
@pytest.mark.parametrize("age", [0, 9999])
def test_without_the_right_key_nothing_is_sent_and_the_row_stays(
    make_connection, configure, scripted, keys, use, age: int
) -> None:
    connection = make_connection(age=age)
    before = protocol_state(connection)
    configure(KEYS=keys)
    with pytest.raises(KeyUnavailable) as raised:
        use(stored(connection))
    assert isinstance(raised.value, requests.RequestException)
    assert protocol_state(connection) == before
    assert scripted.requests == []


@pytest.mark.compliance("D43")
def test_with_its_key_back_a_connection_works_again(make_connection, configure, settings) -> None:
    connection = make_connection()
    good = settings.OAUTH_CONNECT["KEYS"]
    configure(KEYS=[OTHER])
    with pytest.raises(KeyUnavailable):
        _ = stored(connection).token
    configure(KEYS=[OTHER, *good])
    assert stored(connection).access_token() == "access-0"


# --- copies -------------------------------------------------------------------------------------


@pytest.mark.compliance("D45")
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_holds_no_open_token_and_still_works(make_connection, protocol: int) -> None:
    connection = make_connection()
    assert connection.token.access_token == "access-0"
    pickled = pickle.dumps(connection, protocol)
    assert b"access-0" not in pickled
    assert b"refresh-0" not in pickled
    assert pickle.loads(pickled).token.access_token == "access-0"  # noqa: S301


@pytest.mark.compliance("D45")
@pytest.mark.parametrize("thing", ["session", "response", "error"])
def test_what_carries_an_open_token_is_not_pickled(make_connection, scripted, thing: str) -> None:
    """A response that a site puts into its cache would contain the token."""
    scripted.on("/api/user", Answer(body={}))
    scripted.on("/api/lost", Answer(reset=True))
    with make_connection().session() as http:
        things: dict[str, Any] = {"session": http, "response": http.get("user")}
        with pytest.raises(requests.ConnectionError) as raised:
            http.get("lost")
    things["error"] = raised.value
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(things[thing])


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_opens_its_own_token(make_connection, duplicate) -> None:
    connection = make_connection()
    _ = connection.token
    assert duplicate(connection).token.access_token == "access-0"


@pytest.mark.compliance("D45")
def test_no_view_of_a_row_shows_a_token(make_connection) -> None:
    connection = make_connection()
    _ = connection.token
    views = [
        *(repr(connection), str(connection), model_to_dict(connection)),
        *(vars(connection), Connection.objects.values().get(), Connection.objects.values_list().get()),
    ]
    assert not [view for view in views if "access-0" in str(view) or "refresh-0" in str(view)]


def to_the_second(connection: Connection) -> dict[str, object]:
    """The protocol's columns as precisely as a fixture in JSON keeps them."""
    state = protocol_state(connection)
    return {
        name: value.replace(microsecond=0) if isinstance(value, datetime) else value
        for name, value in state.items()
    }


@pytest.mark.compliance("D45")
@pytest.mark.parametrize("kind", ["json", "jsonl", "xml"])
def test_a_fixture_holds_ciphertext_and_restores_the_connection(make_connection, tmp_path, kind) -> None:
    connection = make_connection()
    gone = make_connection()
    QuerySet(Connection).filter(pk=gone.pk).update(sealed_token=None)
    before = [to_the_second(one) for one in (connection, gone)]
    fixture: Path = tmp_path / f"connections.{kind}"
    call_command("dumpdata", "oauth_connect", format=kind, output=str(fixture), verbosity=0)
    assert "access-0" not in fixture.read_text(encoding="utf-8")
    Connection.objects.all().delete()
    call_command("loaddata", str(fixture), verbosity=0)
    assert [to_the_second(one) for one in (connection, gone)] == before
    assert stored(connection).token.access_token == "access-0"


@pytest.mark.compliance("B3")
def test_a_fixture_with_a_plain_token_is_not_loaded(make_connection) -> None:
    (dumped,) = json.loads(serializers.serialize("json", [make_connection()]))
    dumped["fields"]["sealed_token"] = "plain"
    with pytest.raises((serializers.base.DeserializationError, FieldError)):
        list(serializers.deserialize("json", json.dumps([dumped])))


# --- its database -------------------------------------------------------------------------------


def test_a_user_model_with_another_kind_of_key_serves(make_connection, user) -> None:
    connection = make_connection()
    assert isinstance(user.pk, uuid.UUID)
    assert connection.owner == f"user:{user.pk}"
    assert list(user.oauth_connections.all()) == [connection]
    user.delete()
    assert not Connection.objects.exists()


def test_who_connected_it_may_go(make_connection, other_user) -> None:
    connection = make_connection(owner="team:1", connected_by=other_user)
    other_user.delete()
    assert stored(connection).connected_by is None


class Elsewhere:
    """A router that keeps this app in a database of its own."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "other" if model._meta.app_label in ("oauth_connect", "accounts") else None

    db_for_write = db_for_read


ELSEWHERE = f"{__name__}.Elsewhere"


@pytest.fixture(params=["router", "using"])
def elsewhere(request, settings) -> Connection:
    """A connection in the database ``other``; these tests may not touch any other one."""
    rows = Connection.objects.all()
    if request.param == "router":
        settings.DATABASE_ROUTERS = [ELSEWHERE]
    else:
        rows = rows.using("other")
    person = get_user_model().objects.db_manager("other").create_user(username="grace")
    return rows.store(
        owner=person,
        provider="scripted",
        token_response={**FRESH, "access_token": "access-0"},
        account_id="1",
        obtained_at=datetime.now(UTC) - timedelta(hours=2),
    )


@pytest.mark.compliance("D47")
@pytest.mark.django_db(databases=["other"])
class TestAnotherDatabase:
    def row(self) -> Connection:
        return Connection.objects.using("other").get()

    def test_a_connection_is_stored_there(self, elsewhere) -> None:
        assert self.row() == elsewhere
        assert self.row().token.access_token == "access-0"

    def test_a_refresh_happens_there(self, elsewhere, scripted) -> None:
        scripted.on("/token", Answer(body=FRESH))
        scripted.on("/api/user", Answer(body={}))
        with elsewhere.session() as http:
            assert http.get("user").status_code == 200
        assert (self.row().token.refresh_token, self.row().version) == ("refresh-1", 1)

    def test_a_mark_happens_there(self, elsewhere, scripted) -> None:
        scripted.on("/token", Answer(400, body={"error": "invalid_grant"}))
        with pytest.raises(ReauthorizationRequired):
            elsewhere.access_token()
        assert self.row().status == "reauthorization_required"

    def test_an_alarm_happens_there(self, elsewhere, scripted) -> None:
        scripted.on("/token", Answer(401, body={"error": "invalid_client"}))
        with pytest.raises(ProviderMisconfigured):
            elsewhere.access_token()
        assert (self.row().status, self.row().failures) == ("active", 1)

    def test_a_reconnect_happens_there(self, elsewhere) -> None:
        again = Connection.objects.using("other").store(
            owner=elsewhere.owner, provider="scripted", token_response=FRESH, account_id="1"
        )
        assert (again.pk, self.row().version) == (elsewhere.pk, 1)

    def test_a_save_happens_there(self, elsewhere) -> None:
        elsewhere.account_label = "new"
        elsewhere.save()
        assert self.row().account_label == "new"

    def test_a_disconnect_happens_there(
        self, elsewhere, scripted, django_capture_on_commit_callbacks
    ) -> None:
        scripted.on("/revoke", Answer(503))
        with django_capture_on_commit_callbacks(using="other", execute=True):
            elsewhere.disconnect()
        assert self.row().status == "revoked"
        assert PendingRevocation.objects.using("other").get().open().refresh_token == "refresh-1"
