"""A proxy of the model, and a multi-table child, are the connection that they are; and what save() writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import DatabaseError, transaction
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from oauth_connect import crypto
from oauth_connect.flows import machine_connection, session_for
from oauth_connect.jobs.refresh import Due, refresh_due
from oauth_connect.models import Connection, ConnectionEvent, PendingRevocation
from oauth_connect.models.fields import Sealed
from oauth_connect.models.lifecycle.revocation import attempt
from tests.accounts.models import ProxyConnection, TaggedConnection
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.tokens import FRESH, raw, stored

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]
SUBCLASSES = pytest.mark.parametrize("model", [ProxyConnection, TaggedConnection], ids=["proxy", "child"])


@pytest.fixture
def store(user: Any, scripted: ScriptedServer) -> Callable[..., Any]:
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/revoke", Answer())

    def store(model: Any, **options: Any) -> Any:
        response = {**FRESH, "access_token": "access-0", "refresh_token": "refresh-0"}
        return model.objects.store(
            **{"owner": user, "provider": "scripted", "token_response": response, **options}
        )

    return store


# --- seal and open --------------------------------------------------------------------------------


@SUBCLASSES
def test_what_is_sealed_as_one_opens_as_the_other(model: Any, store: Any, user: Any) -> None:
    ours = store(model)
    assert type(ours) is model
    plain = Connection.objects.get(pk=ours.pk)
    assert ours.access_token() == plain.access_token() == "access-0"
    plain.refresh()
    assert model.objects.get(pk=ours.pk).token.access_token == "access-1"
    assert session_for(user, "scripted")
    call_command("oauth_rotate_keys", verbosity=0)
    assert model.objects.get(pk=ours.pk).token.access_token == "access-1"


@SUBCLASSES
def test_it_refreshes_as_the_connection(model: Any, store: Any) -> None:
    ours = store(model)
    ours.refresh()
    assert (ours.token.access_token, stored(ours).token.access_token) == ("access-1", "access-1")
    assert (stored(ours).version, stored(ours).lease_owner) == (1, "")


def test_its_statements_are_those_of_the_connection(store: Any) -> None:
    """Django makes two statements of an UPDATE of a child: a claim would then not be atomic."""
    child = store(TaggedConnection)
    with CaptureQueriesContext(database) as queries:
        child.refresh()
        child.disconnect()
    statements = [query["sql"] for query in queries]
    assert not [sql for sql in statements if TaggedConnection._meta.db_table in sql]


@SUBCLASSES
@pytest.mark.django_db(transaction=True)
def test_a_run_refreshes_it(model: Any, store: Any) -> None:
    ours = store(model)
    raw(ours).update(refresh_at=ours.created_at, expires_at=ours.created_at)
    assert [result.outcome for result in refresh_due(Due())] == ["refreshed"]
    assert model.objects.get(pk=ours.pk).token.access_token == "access-1"


@SUBCLASSES
def test_one_account_is_one_row_whichever_class_stores_it(model: Any, store: Any) -> None:
    plain = store(Connection, account_id="ada")
    ours = store(model, account_id="ada", token_response=FRESH)
    assert (type(ours), ours.pk, ours.version) == (model, plain.pk, 1)
    assert store(Connection, account_id="ada").pk == plain.pk
    assert model.objects.get().token.access_token == "access-0"


def test_a_child_stores_its_own_columns_with_the_token(store: Any) -> None:
    store(Connection, account_id="ada")
    for tag in ("first", "second"):
        store(TaggedConnection, account_id="ada", tag=tag)
        assert TaggedConnection.objects.get().tag == tag
    assert store(TaggedConnection, account_id="linus", tag="other").tag == "other"


@SUBCLASSES
def test_a_value_that_an_earlier_release_sealed_for_the_subclass_opens(model: Any, store: Any) -> None:
    ours = store(model)
    old = (model._meta.label_lower, "sealed_token", str(ours.pk), "scripted")
    raw(ours).update(sealed_token=Sealed(crypto.seal(ours.token.to_dict(), old)))
    assert stored(ours).token.access_token == "access-0"
    call_command("oauth_rotate_keys", verbosity=0)
    assert model.objects.get().access_token() == "access-0"


# --- the end --------------------------------------------------------------------------------------


@SUBCLASSES
@pytest.mark.django_db(transaction=True)
def test_disconnect_revokes_at_the_provider(model: Any, store: Any, scripted: ScriptedServer) -> None:
    store(model)
    model.objects.get().disconnect()
    assert [request.form["token"] for request in scripted.asked("/revoke")] == ["refresh-0"]
    assert (Connection.objects.get().status, Connection.objects.get().sealed_token) == ("revoked", None)


@SUBCLASSES
@pytest.mark.parametrize(
    "delete",
    [
        lambda row: row.delete(),
        lambda row: type(row).objects.all().delete(),
        lambda row: Connection.objects.all().delete(),
        lambda row: Connection.objects.get().delete(),
        lambda row: row.user.delete(),
        lambda row: get_user_model().objects.all().delete(),
    ],
    ids=["row", "queryset", "queryset of all", "row of the base", "user", "users"],
)
def test_what_is_deleted_is_revoked(model: Any, store: Any, scripted: ScriptedServer, delete: Any) -> None:
    delete(store(model))
    assert not Connection.objects.exists()
    (pending,) = PendingRevocation.objects.all()
    assert attempt(pending, Connection).outcome == "revoked"
    assert [request.form["token"] for request in scripted.asked("/revoke")] == ["refresh-0"]
    assert ConnectionEvent.objects.filter(action="disconnected").count() == 1


# --- save -----------------------------------------------------------------------------------------


def test_a_child_saves_its_own_columns(store: Any) -> None:
    child = store(TaggedConnection)
    child.tag, child.account_label = "new", "a label"
    child.save()
    found = TaggedConnection.objects.get()
    assert (found.tag, found.account_label, found.token.access_token) == ("new", "a label", "access-0")


def test_a_stale_child_brings_no_spent_token_back(store: Any) -> None:
    stale = store(TaggedConnection)
    Connection.objects.get().refresh()
    stale.tag = "new"
    stale.save()
    found = TaggedConnection.objects.get()
    assert (found.tag, found.token.access_token, found.version) == ("new", "access-1", 1)


@pytest.mark.parametrize(
    "select", [lambda rows: rows.only("extra"), lambda rows: rows.defer("account_label")]
)
def test_what_was_not_loaded_is_not_saved(
    make_connection: Any, select: Any, django_assert_num_queries: Any
) -> None:
    connection = make_connection(account_label="old")
    part = select(Connection.objects.all()).get()
    Connection.objects.update(account_label="of another worker")
    part.extra = {"note": 1}
    with django_assert_num_queries(1):
        part.save()
    assert (stored(connection).account_label, stored(connection).extra) == ("of another worker", {"note": 1})


def test_what_is_set_on_a_part_is_saved(make_connection: Any) -> None:
    connection = make_connection()
    part = Connection.objects.only("pk").get()
    part.account_label = "new"
    part.save()
    assert stored(connection).account_label == "new"


@pytest.mark.django_db(databases=["default", "other"])
@pytest.mark.parametrize("part", [False, True], ids=["whole", "part"])
def test_saving_into_another_database_inserts_the_row_once(
    make_connection: Any, user: Any, part: bool
) -> None:
    make_connection(account_label="first")
    get_user_model().objects.using("other").create(pk=user.pk, username="grace")
    rows = Connection.objects.only("account_label") if part else Connection.objects
    rows.get().save(using="other")
    copy = Connection.objects.using("other").get()
    assert (copy.account_label, copy.token.access_token) == ("first", "access-0")
    changed = Connection.objects.using("default").get()
    changed.account_label, changed.status = "second", "revoked"
    changed.save(using="other")
    copy = Connection.objects.using("other").get()
    assert (copy.account_label, copy.status) == ("second", "active")


def test_a_deleted_row_is_not_inserted_again(make_connection: Any) -> None:
    connection = make_connection()
    Connection.objects.all().delete()
    for save in (connection.save, lambda: connection.save(using="default")):
        with pytest.raises(DatabaseError), transaction.atomic():
            save()


def test_a_machine_token_of_a_child_is_found_again(store: Any) -> None:
    machine = machine_connection("scripted")
    machine.extra = {"a": 1}
    machine.save()
    assert machine_connection("scripted").pk == machine.pk
