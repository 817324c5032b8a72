"""A connection is used for one owner only: rows that name two, handing over, fixtures, and the repair."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.core import checks, serializers
from django.core.management import call_command
from django.db import connections
from django.urls import reverse

from oauth_connect.contrib.httpx import client
from oauth_connect.errors import (
    AlreadyConnected,
    IncompleteConnection,
    InvalidOwner,
    OwnerMismatch,
    ReauthorizationRequired,
)
from oauth_connect.flows import access_token_for, machine_connection, session_for
from oauth_connect.jobs.refresh import Due, refresh_due
from oauth_connect.models import Connection, ConnectionEvent, Owner, PendingRevocation
from oauth_connect.models.lifecycle import ownership
from oauth_connect.models.querysets import ConnectionQuerySet, ProtocolColumnsError
from oauth_connect.models.row import identity_of
from tests.accounts.models import Note
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.tokens import EXPIRED, FRESH, protocol_state, raw, stored
from tests.support.visitor import Visitor

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]


@pytest.fixture
def torn(make_connection: Any, user: Any, other_user: Any) -> Connection:
    """A connection of the user, whose column ``user`` was updated in SQL."""
    connection = make_connection(account_id="ada", account_label="Ada at work", age=EXPIRED)
    raw(connection).update(user=other_user)
    return stored(connection)


def mismatched() -> list[Any]:
    return [row.pk for row in ownership.mismatched(Connection, "default")]


# --- a row that names two owners --------------------------------------------------------------------


@pytest.mark.compliance("D57")
def test_it_belongs_to_neither(torn: Connection, user: Any, other_user: Any) -> None:
    for who in (user, other_user, torn.owner, Owner.of(user)):
        assert not Connection.objects.for_owner(who).exists()
        with pytest.raises(ReauthorizationRequired):
            session_for(who, "scripted")
        with pytest.raises(ReauthorizationRequired):
            access_token_for(who, "scripted")


USES: list[Callable[[Connection], Any]] = [
    lambda row: row.session(),
    lambda row: row.access_token(),
    lambda row: row.refresh(),
    lambda row: row.disconnect(),
    lambda row: row.move_to("org:1"),
    lambda row: async_to_sync(row.aaccess_token)(),
    lambda row: async_to_sync(row.arefresh)(),
    client,
]


@pytest.mark.parametrize("age", [0, EXPIRED], ids=["valid", "expired"])
@pytest.mark.parametrize("use", USES)
def test_nothing_uses_it_and_the_error_names_the_repair(
    torn: Connection, scripted: ScriptedServer, use: Callable[[Connection], Any], age: float
) -> None:
    if not age:
        raw(torn).update(expires_at=None)
    before = protocol_state(torn)
    with pytest.raises(OwnerMismatch, match="oauth_repair_owners"):
        use(torn)
    assert not scripted.requests
    assert protocol_state(torn) == before


@pytest.mark.django_db(transaction=True)
def test_a_run_reports_it_and_refreshes_the_others(
    torn: Connection, make_connection: Any, scripted: ScriptedServer
) -> None:
    scripted.on("/token", Answer(body=FRESH))
    others = [make_connection(age=2 * EXPIRED) for _ in range(3)]  # first: the run remembers their provider
    results = {result.connection: (result.outcome, result.code) for result in refresh_due(Due(), workers=2)}
    assert results == {row.pk: ("refreshed", "") for row in others} | {torn.pk: ("failed", "owner_mismatch")}
    assert len(scripted.asked("/token")) == len(others)
    assert not Due().counts(), "it does not block the queue"


def test_a_run_in_a_transaction_reports_it(torn: Connection, scripted: ScriptedServer) -> None:
    (result,) = refresh_due(Due())
    assert (result.outcome, result.code) == ("failed", "owner_mismatch")
    assert not scripted.requests


@pytest.mark.compliance("D17")
@pytest.mark.parametrize("lenient", [False, True], ids=["", "database that finds it"])
def test_the_pages_do_not_know_it(
    torn: Connection, user: Any, other_user: Any, monkeypatch: pytest.MonkeyPatch, lenient: bool
) -> None:
    if lenient:  # as MariaDB does for users whose primary key is text
        monkeypatch.setattr(ConnectionQuerySet, "for_owner", lambda rows, owner: rows.all())
    for who in (user, other_user):
        visitor = Visitor(who)
        assert b"Ada at work" not in visitor.get(reverse("oauth_connect:connections")).content
        end = reverse("oauth_connect:disconnect", kwargs={"pk": torn.pk})
        assert (visitor.get(end).status_code, visitor.post(end).status_code) == (404, 404)
        again = reverse("oauth_connect:connect", args=["scripted"], query={"connection": torn.pk})
        assert visitor.get(again).status_code == 404


@pytest.mark.parametrize("action", ["refresh_selected", "disconnect_selected"])
def test_staff_are_sent_to_the_repair(
    torn: Connection, admin_client: Any, scripted: ScriptedServer, action: str
) -> None:
    before = protocol_state(torn)
    data = {"action": action, "_selected_action": str(torn.pk), "confirmed": "yes"}
    page = admin_client.post(reverse("admin:oauth_connect_connection_changelist"), data, follow=True)
    assert b"oauth_repair_owners" in page.content
    assert not scripted.requests
    assert protocol_state(torn) == before


def test_its_former_owner_does_not_store_a_token_in_it(torn: Connection, user: Any, other_user: Any) -> None:
    """The repair would hand that token to the other user."""
    before = protocol_state(torn)
    with pytest.raises(OwnerMismatch):
        Connection.objects.store(owner=user, provider="scripted", token_response=FRESH, account_id="ada")
    assert protocol_state(torn) == before


def test_it_can_be_deleted_and_its_token_is_revoked(torn: Connection) -> None:
    torn.delete()
    assert PendingRevocation.objects.count() == 1


def test_other_rows_are_used(make_connection: Any, user: Any) -> None:
    for owner in (user, "org:1", "user:not-a-primary-key"):
        make_connection(owner=owner).access_token()
    machine = Connection(owner="machine:x", grant=Connection.Grant.CLIENT_CREDENTIALS)
    machine.check_owner()
    assert mismatched() == []


def test_the_check_finds_it(torn: Connection) -> None:
    found = checks.run_checks(databases=["default"], tags=[checks.Tags.database])
    (message,) = (message for message in found if message.id == "oauth_connect.W030")
    assert "oauth_repair_owners" in message.hint
    assert not message.is_serious(), "migrate must run"


def test_the_check_is_silent_for_rows_that_agree(make_connection: Any) -> None:
    make_connection()
    make_connection(owner="org:1")
    found = checks.run_checks(databases=["default"], tags=[checks.Tags.database])
    assert not [message for message in found if message.id == "oauth_connect.W030"]


# --- what would tear a row --------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["owner", "user", "user_id", "provider", "account_id", "identity"])
def test_no_update_changes_whose_it_is(make_connection: Any, other_user: Any, column: str) -> None:
    connection = make_connection()
    value = other_user.pk if column.startswith("user") else "another"
    with pytest.raises(ProtocolColumnsError, match="move_to"):
        Connection.objects.filter(pk=connection.pk).update(**{column: value})
    with pytest.raises(ProtocolColumnsError, match="move_to"):
        Connection.objects.bulk_update([connection], ["user" if column == "user_id" else column])
    with pytest.raises(ProtocolColumnsError, match="move_to"):
        Connection.objects.bulk_create(
            [connection], update_conflicts=True, update_fields=[column], unique_fields=["id"]
        )


def test_save_does_not_change_whose_it_is(make_connection: Any, other_user: Any) -> None:
    connection = make_connection()
    connection.user = other_user
    for save in (connection.save, lambda: connection.save(update_fields=["user"])):
        with pytest.raises(IncompleteConnection, match="move_to"):
            save()
    connection = stored(connection)
    connection.account_id = "another"
    with pytest.raises(IncompleteConnection):
        connection.save()


def test_a_stale_instance_does_not_give_it_back(make_connection: Any, other_user: Any) -> None:
    connection = make_connection()
    stale = stored(connection)
    connection.move_to(other_user)
    stale.account_label = "new"
    stale.save()
    assert (stored(connection).user, stored(connection).account_label) == (other_user, "new")


@pytest.mark.parametrize("load", [lambda rows: rows.only("pk"), lambda rows: rows.defer("identity")])
def test_a_part_of_a_row_cannot_change_whose_it_is(make_connection: Any, other_user: Any, load: Any) -> None:
    connection = load(Connection.objects.filter(pk=make_connection().pk)).get()
    connection.owner, connection.user = f"user:{other_user.pk}", other_user
    with pytest.raises(IncompleteConnection):
        connection.save(update_fields=["owner", "user"])


@pytest.mark.compliance("D57")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_an_instance_from_before_the_handover_is_used_for_nobody(
    make_connection: Any, other_user: Any, scripted: ScriptedServer, is_async: bool
) -> None:
    stale = make_connection(age=EXPIRED)
    stored(stale).move_to(other_user)
    get = async_to_sync(stale.aaccess_token) if is_async else stale.access_token
    for act in (get, stale.refresh, stale.disconnect):
        with pytest.raises(OwnerMismatch, match="Load it again"):
            act()
    assert not scripted.requests
    assert stored(stale).status == "active"


def test_a_new_row_names_one_owner(user: Any) -> None:
    row = {"provider": "scripted", "owner": "org:1", "user": user}
    row["identity"] = identity_of("org:1", "scripted", "")
    for create in (
        lambda: Connection.objects.create(**row),
        lambda: Connection.objects.bulk_create([Connection(**row)]),
    ):
        with pytest.raises(IncompleteConnection):
            create()


def test_store_by_the_key_of_a_user_sets_the_user(make_connection: Any, user: Any) -> None:
    connection = make_connection(owner=f"user:{user.pk}")
    assert connection.user == user
    assert list(Connection.objects.for_owner(user)) == [connection]
    with pytest.raises(InvalidOwner, match="no user"):
        make_connection(owner=f"user:{uuid.uuid4()}")


# --- handing over -----------------------------------------------------------------------------------


def test_a_connection_is_handed_over_with_its_token(
    make_connection: Any, user: Any, other_user: Any, scripted: ScriptedServer
) -> None:
    connection = make_connection(account_id="ada")
    kept = PendingRevocation.of(connection)
    kept.seal(connection.token)
    kept.save()
    connection.move_to(other_user, actor=user)
    for row in (connection, stored(connection)):
        assert (row.user, row.owner) == (other_user, f"user:{other_user.pk}")
        assert row.identity == identity_of(row.owner, "scripted", "ada")
        assert row.access_token() == "access-0"
    assert list(Connection.objects.for_owner(other_user)) == [connection]
    assert not Connection.objects.for_owner(user).exists()
    assert PendingRevocation.objects.get().owner == connection.owner
    events = ConnectionEvent.objects.filter(action="moved").order_by("pk")
    assert [(event.owner, event.actor) for event in events] == [
        (f"user:{user.pk}", user),
        (f"user:{other_user.pk}", user),
    ]
    assert not scripted.requests


def test_it_goes_to_an_organisation_and_back(make_connection: Any, user: Any) -> None:
    connection = make_connection()
    connection.move_to(Owner("org:1"))
    assert (stored(connection).owner, stored(connection).user) == ("org:1", None)
    connection.move_to(f"user:{user.pk.hex}")
    assert stored(connection).user == user
    connection.move_to(user)
    assert ConnectionEvent.objects.filter(action="moved").count() == 4, "the last changed nothing"


def test_two_connections_to_one_account_do_not_become_one(
    make_connection: Any, user: Any, other_user: Any
) -> None:
    mine, theirs = make_connection(account_id="ada"), make_connection(owner=other_user, account_id="ada")
    with pytest.raises(AlreadyConnected) as raised:
        mine.move_to(other_user)
    assert raised.value.connection == theirs
    assert stored(mine).user == user == mine.user
    assert not ConnectionEvent.objects.filter(action="moved").exists()


@pytest.mark.parametrize("referred_to", [False, True])
def test_a_disconnected_one_is_in_the_way_only_if_the_site_refers_to_it(
    make_connection: Any, other_user: Any, scripted: ScriptedServer, referred_to: bool
) -> None:
    mine, ended = make_connection(account_id="ada"), make_connection(owner=other_user, account_id="ada")
    ended.disconnect()
    if referred_to:
        Note.objects.create(connection=ended, text="of the site")
        with pytest.raises(AlreadyConnected):
            mine.move_to(other_user)
    else:
        mine.move_to(other_user)
    assert Connection.objects.filter(pk=ended.pk).exists() is referred_to


def test_what_cannot_be_handed_over(
    make_connection: Any, user: Any, scripted: ScriptedServer, scripted_entry: Any, configure: Any
) -> None:
    connection = make_connection()
    for owner in ("machine:scripted", f"user:{uuid.uuid4()}", ""):
        with pytest.raises(InvalidOwner):
            connection.move_to(owner)
    with pytest.raises(InvalidOwner):
        machine_connection("scripted").move_to(user)
    raw(connection).delete()
    with pytest.raises(Connection.DoesNotExist):
        connection.move_to("org:1")


def test_a_token_is_not_handed_to_another_server(
    make_connection: Any, scripted_entry: dict[str, Any], configure: Callable[..., None]
) -> None:
    theirs = {**scripted_entry, "api_base_url": "https://another.example/"}
    configure(
        PROVIDERS={}, PROVIDER_LOADER=lambda slug, owner: theirs if owner == "org:2" else scripted_entry
    )
    connection = make_connection(owner="org:1")
    with pytest.raises(InvalidOwner, match="PROVIDER_LOADER"):
        connection.move_to("org:2")
    connection.move_to("org:3")


@pytest.mark.django_db(transaction=True)
def test_it_is_handed_to_one_of_two_at_the_same_moment(make_connection: Any, calls_at_once: Any) -> None:
    connection = make_connection()
    owners = iter(["org:1", "org:2"])
    lock = threading.Lock()

    def move() -> None:
        with lock:
            owner = next(owners)
        stored(connection).move_to(owner)

    calls_at_once(2, move)
    row = stored(connection)
    assert row.owner in {"org:1", "org:2"}
    assert row.identity == row.computed_identity()


@pytest.mark.django_db(transaction=True)
def test_a_refresh_that_is_under_way_saves_its_token_in_the_moved_row(
    make_connection: Any, other_user: Any, scripted: ScriptedServer
) -> None:
    connection = make_connection(age=EXPIRED)

    def hand_over() -> None:
        try:
            stored(connection).move_to(other_user)
        finally:
            connections.close_all()

    scripted.on("/token", Answer(body=FRESH, until=hand_over))
    connection.refresh()
    assert (stored(connection).user, stored(connection).token.access_token) == (other_user, "access-1")


# --- the repair -------------------------------------------------------------------------------------


def repaired(connection: Connection) -> str:
    dry = ownership.repair(Connection, connection.pk, "default", dry_run=True)
    outcome = ownership.repair(Connection, connection.pk, "default")
    assert dry == outcome
    return outcome


def test_the_owner_follows_the_user(torn: Connection, other_user: Any) -> None:
    assert mismatched() == [torn.pk]
    assert repaired(torn) == "owner_corrected"
    row = stored(torn)
    assert (row.user, row.owner) == (other_user, f"user:{other_user.pk}")
    assert row.identity == row.computed_identity()
    assert mismatched() == []
    assert repaired(torn) == "unchanged"


def test_the_owner_follows_a_changed_primary_key(make_connection: Any, user: Any) -> None:
    connection = make_connection()
    raw(connection).update(owner=f"user:{uuid.uuid4()}")
    assert repaired(connection) == "owner_corrected"
    assert stored(connection).owner == f"user:{user.pk}"


def test_another_spelling_of_the_key_is_corrected(make_connection: Any, user: Any) -> None:
    connection = make_connection()
    raw(connection).update(owner=f"user:{user.pk.hex}")
    assert mismatched() == [connection.pk]
    assert repaired(connection) == "owner_corrected"
    assert stored(connection).owner == f"user:{user.pk}"


def test_a_row_of_another_owner_loses_the_user_beside_it(make_connection: Any, user: Any) -> None:
    connection = make_connection(owner="org:1")
    raw(connection).update(user=user)
    assert repaired(connection) == "user_removed"
    assert (stored(connection).owner, stored(connection).user) == ("org:1", None)


def test_a_row_whose_owner_was_overwritten_comes_back_to_its_user(make_connection: Any, user: Any) -> None:
    connection = make_connection()
    raw(connection).update(owner="org:1")
    assert repaired(connection) == "owner_corrected"
    assert stored(connection).owner == f"user:{user.pk}"


def test_a_row_without_its_user_gets_it(make_connection: Any, user: Any) -> None:
    connection = make_connection()
    raw(connection).update(user=None)
    assert mismatched() == [connection.pk]
    assert repaired(connection) == "user_added"
    assert stored(connection).user == user


def test_a_key_of_no_user_stays_unused(make_connection: Any) -> None:
    connection = make_connection()
    raw(connection).update(user=None, owner=f"user:{uuid.uuid4()}")
    assert repaired(connection) == "no_user"
    with pytest.raises(OwnerMismatch):
        stored(connection).access_token()


def test_what_the_user_has_connected_already_is_left(
    torn: Connection, make_connection: Any, other_user: Any
) -> None:
    make_connection(owner=other_user, account_id="ada")
    assert repaired(torn) == "already_connected"
    assert mismatched() == [torn.pk]


@pytest.mark.process
@pytest.mark.once
def test_numbers_as_primary_keys(tmp_path: Any) -> None:
    """There the database leaves out the rows that agree."""
    command = [sys.executable, "-m", "tests.models.lifecycle.integer_site", str(tmp_path / "site.sqlite3")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == {
        "mismatched": ["of another", "organisation with user", "with a zero", "without user"],
        "after": [],
        "of ada": ["right", "with a zero"],
        "one key": True,
        "too large": "InvalidOwner",
    }


# --- fixtures ---------------------------------------------------------------------------------------


@pytest.fixture
def dump(make_connection: Any, user: Any) -> str:
    make_connection(account_id="ada")
    rows = [user, *Connection.objects.all()]
    return serializers.serialize("json", rows, use_natural_foreign_keys=True, use_natural_primary_keys=True)


def load(dump: str, tmp_path: Any) -> None:
    path = tmp_path / "dump.json"
    path.write_text(dump)
    call_command("loaddata", str(path), verbosity=0)


def test_a_fixture_with_natural_keys_gives_the_rows_to_the_user_it_finds(
    dump: str, user: Any, tmp_path: Any
) -> None:
    Connection.objects.all().delete()
    user.delete()
    # The same name elsewhere: another primary key. And the old one may be another user's.
    get_user_model().objects.create(pk=uuid.uuid4(), username="grace")
    load(json.dumps([row for row in json.loads(dump) if "user" not in row["model"]]), tmp_path)
    row = Connection.objects.get()
    assert row.owner == f"user:{row.user_id}" != f"user:{user.pk}"
    assert row.identity == row.computed_identity()
    assert row.access_token() == "access-0"
    assert session_for(row.user, "scripted")


def test_a_fixture_over_living_rows_brings_no_spent_token_back(
    dump: str, scripted: ScriptedServer, tmp_path: Any
) -> None:
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/revoke", Answer())
    row = Connection.objects.get()
    row.refresh()
    load(dump, tmp_path)
    assert stored(row).token.refresh_token == "refresh-1"
    row.disconnect()
    load(dump, tmp_path)
    assert (stored(row).status, stored(row).sealed_token) == ("revoked", None)


def test_a_fixture_of_a_machine_token_keeps_its_identity(tmp_path: Any) -> None:
    row = machine_connection("scripted", scopes=["a"])
    dump = serializers.serialize("json", [row])
    Connection.objects.all().delete()
    load(dump, tmp_path)
    assert machine_connection("scripted", scopes=["a"]).pk == row.pk


# --- reads ------------------------------------------------------------------------------------------


def test_an_owner_of_a_valid_token_costs_no_query(
    make_connection: Any, django_assert_num_queries: Any
) -> None:
    connection = stored(make_connection())
    with django_assert_num_queries(0):
        connection.access_token()
