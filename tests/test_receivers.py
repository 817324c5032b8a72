"""Deleting a row, or its owner, forgets no token that lives on at the provider."""

from __future__ import annotations

import contextlib
import logging
import threading

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models.signals import pre_delete

from oauth_connect import signals
from oauth_connect.models import Connection, ConnectionEvent, PendingRevocation
from oauth_connect.models.lifecycle.revocation import attempt
from tests.management.conftest import OTHER_KEY
from tests.servers.scripted import Answer
from tests.support.threads import meanwhile
from tests.support.tokens import FRESH

pytestmark = pytest.mark.django_db(transaction=True)


def the_row(connection, user):
    connection.delete()


def a_queryset(connection, user):
    Connection.objects.filter(pk=connection.pk).delete()


def all_rows(connection, user):
    Connection.objects.all().delete()


def the_user(connection, user):
    user.delete()


def all_users(connection, user):
    get_user_model().objects.all().delete()


DELETIONS = pytest.mark.parametrize("delete", [the_row, a_queryset, all_rows, the_user, all_users])


@pytest.mark.compliance("D46", "D50")
@DELETIONS
def test_what_is_deleted_is_kept_sealed_and_revoked_later(
    delete, user, scripted, scripted_provider, make_connection
):
    connection = make_connection(account_id="ada")
    pk, owner = connection.pk, connection.owner

    delete(connection, user)

    assert not Connection.objects.exists()
    pending = PendingRevocation.objects.get()
    assert (pending.connection_id, pending.owner, pending.account_id) == (pk, owner, "ada")
    assert pending.open().refresh_token == "refresh-0"
    assert scripted.asked("/revoke") == [], "many rows may go at once; oauth_prune asks"
    scripted.on("/revoke", Answer(200))
    assert attempt(pending, Connection).outcome == "revoked"
    assert scripted.asked("/revoke")[0].form["token"] == "refresh-0"


@DELETIONS
def test_a_deletion_is_in_the_history_and_the_signal_is_sent(
    delete, user, scripted_provider, make_connection
):
    heard = []

    def receiver(sender, connection, **extra):
        heard.append((connection.pk, connection.status, connection.sealed_token))

    connection = make_connection()
    pk = connection.pk
    signals.disconnected.connect(receiver)
    try:
        delete(connection, user)
    finally:
        signals.disconnected.disconnect(receiver)
    assert heard == [(pk, "revoked", None)]
    assert ConnectionEvent.objects.filter(connection_id=pk, action="disconnected").count() == 1


def test_a_deletion_that_is_rolled_back_leaves_everything_as_it_was(scripted_provider, make_connection):
    connection = make_connection()
    with transaction.atomic():
        Connection.objects.all().delete()
        transaction.set_rollback(True)
    again = Connection.objects.get()
    assert (again.pk, again.version, again.token.refresh_token) == (connection.pk, 0, "refresh-0")
    assert not PendingRevocation.objects.exists()


def test_what_was_disconnected_before_leaves_nothing_to_revoke(scripted_provider, make_connection):
    connection = make_connection()
    connection.disconnect()
    before = ConnectionEvent.objects.count(), PendingRevocation.objects.count()
    connection.delete()
    assert (ConnectionEvent.objects.count(), PendingRevocation.objects.count()) == before


@pytest.mark.parametrize("how", [{"revocation": {"style": "none"}}, {"revocation_endpoint": ""}])
def test_where_a_provider_cannot_revoke_nothing_is_kept(how, scripted_entry, configure, make_connection):
    configure(PROVIDERS={"scripted": {**scripted_entry, **how}})
    make_connection().delete()
    assert not PendingRevocation.objects.exists()


def test_the_token_of_a_provider_that_the_settings_have_lost_is_kept(
    scripted_provider, configure, make_connection
):
    connection = make_connection()
    configure(PROVIDERS={})
    connection.delete()
    assert PendingRevocation.objects.get().open().refresh_token == "refresh-0"


@pytest.mark.compliance("D43")
def test_a_token_that_no_key_opens_stops_no_deletion(scripted_provider, configure, make_connection, caplog):
    connection = make_connection()
    configure(KEYS=[OTHER_KEY])
    with caplog.at_level(logging.WARNING, "oauth_connect"):
        connection.delete()
    assert not Connection.objects.exists()
    assert not PendingRevocation.objects.exists()
    assert [record.action for record in caplog.records] == ["token_unopened"]


def test_a_stale_instance_does_not_queue_a_spent_token(scripted, scripted_provider, make_connection):
    """Django reads the rows of a deletion some time before it deletes them."""
    connection = make_connection()
    scripted.on("/token", Answer(body=FRESH))
    Connection.objects.get().refresh()
    connection.delete()
    assert PendingRevocation.objects.get().open().refresh_token == "refresh-1"


@pytest.mark.compliance("D46")
def test_a_row_that_is_deleted_while_it_is_refreshed_leaves_no_living_token_behind(
    scripted, scripted_provider, make_connection
):
    go = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=go))
    scripted.on("/revoke", Answer(200))
    connection = make_connection(age=7200)

    def refresh() -> None:
        with contextlib.suppress(Exception):
            Connection.objects.get(pk=connection.pk).refresh()

    with meanwhile(refresh):
        scripted.wait_for("/token")
        Connection.objects.all().delete()
        go.set()

    for pending in PendingRevocation.objects.all():
        attempt(pending, Connection)
    assert {call.form["token"] for call in scripted.asked("/revoke")} == {"refresh-0", "refresh-1"}


def test_no_other_model_s_deletion_is_listened_to():
    assert not pre_delete.has_listeners(get_user_model())
    assert not pre_delete.has_listeners(ConnectionEvent)


def test_at_codeyard_a_deleted_row_s_token_is_refused_once_it_is_revoked(codeyard, make_connection):
    connection = make_connection("codeyard", response=codeyard.grant())
    http = connection.session()
    assert http.get("user").status_code == 200
    connection.delete()
    assert codeyard.stats["revocations"] == 0
    attempt(PendingRevocation.objects.get(), Connection)
    assert codeyard.stats["revocations"] == 1
