"""Statements that are built once do what the ORM does each time."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection as database
from django.db import models
from django.db.models.signals import post_save
from django.test.utils import isolate_apps

from oauth_connect.models import Connection, ConnectionEvent, history
from oauth_connect.models.row import rows_of
from oauth_connect.stores import compiled
from oauth_connect.stores.batch import Slot, filled
from oauth_connect.stores.transactions import own_transaction

pytestmark = pytest.mark.django_db


@pytest.fixture
def connection(scripted_provider, make_connection) -> Connection:
    connection: Connection = make_connection()
    return connection


def event(connection, user):
    detail = {"added": ["ü", "%s"], "removed": []}
    return history.of(connection, history.Action.SCOPES_CHANGED, actor=user, detail=detail)


def columns(row) -> dict[str, object]:
    return {
        field.attname: getattr(row, field.attname)
        for field in row._meta.concrete_fields
        if field.name != "id"
    }


def test_an_inserted_row_is_like_a_saved_one(connection, user):
    ConnectionEvent.objects.all().delete()
    saved = event(connection, user)
    saved.save(force_insert=True)
    inserted = event(connection, user)
    inserted.created_at = saved.created_at
    for _ in range(2):
        compiled.insert(inserted, "default")

    assert inserted._state.adding is False
    rows = list(ConnectionEvent.objects.all())
    assert [columns(row) for row in rows] == [columns(saved)] * 3


def test_a_site_that_listens_gets_the_signals_of_an_insert(connection, user):
    heard = []

    def listen(instance, created, **_):
        heard.append((instance.pk is not None, created))

    post_save.connect(listen, sender=ConnectionEvent)
    try:
        compiled.insert(event(connection, user), "default")
    finally:
        post_save.disconnect(listen, sender=ConnectionEvent)

    assert heard == [(True, True)]


@pytest.mark.django_db(transaction=True)
def test_a_copied_connection_sends_no_signals(connection, user):
    heard = []

    def listen(**_):
        heard.append(1)

    post_save.connect(listen, sender=ConnectionEvent)
    try:
        with own_transaction("default", 5, None) as own:
            compiled.insert(event(connection, user), own)
    finally:
        post_save.disconnect(listen, sender=ConnectionEvent)

    assert heard == []


@pytest.mark.parametrize("condition", [{}, {"version": 1}, {"status": "revoked"}])
def test_an_update_changes_the_row_only_if_its_conditions_hold(connection, condition):
    rows = rows_of(Connection, "default")
    conditions = {"id": connection.pk, "version": 0, "status": "active", **condition}
    changes = {
        "scopes": ["x", "ü"],
        "version": 5,
        "refresh_at": None,
        "sealed_token": connection.sealed_token,
    }

    assert compiled.update(rows, conditions, changes) == (not condition)
    connection.refresh_from_db()
    assert (connection.version, connection.scopes) == ((0, []) if condition else (5, ["x", "ü"]))


class Code:
    """A primary key as some sites' users have it. No database driver knows the type."""

    def __init__(self, number: int) -> None:
        self.number = number


class CodeField(models.IntegerField):
    def get_prep_value(self, value: Any) -> Any:
        return value.number if isinstance(value, Code) else value


@isolate_apps("tests.accounts")
def test_a_primary_key_of_the_sites_users_is_converted_by_its_field():
    class Person(models.Model):  # noqa: DJ008
        id = CodeField(primary_key=True)

        class Meta:
            app_label = "accounts"

    class Membership(models.Model):  # noqa: DJ008
        person = models.ForeignKey(Person, models.CASCADE)

        class Meta:
            app_label = "accounts"

    for field in (Person._meta.pk, Membership._meta.get_field("person")):
        assert filled([Slot("user", field)], {"user": Code(7)}, database) == [7]
