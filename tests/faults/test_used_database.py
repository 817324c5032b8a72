"""A database for each tenant on MariaDB, which a site enters with USE."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection as database
from django.db import transaction

from oauth_connect.errors import ConnectionHidden
from oauth_connect.models import Connection
from tests.servers.scripted import Answer
from tests.support.databases import run_name
from tests.support.tokens import EXPIRED, FRESH

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.vendor("mysql")]


def use(name: str) -> None:
    with database.cursor() as cursor:
        cursor.execute(f"USE {database.ops.quote_name(name)}")


@pytest.fixture
def moved(scripted: Any, scripted_provider: Any, make_connection: Callable[..., Connection]) -> Iterator[Any]:
    """A connection whose row is in another database than that of the settings."""
    scripted.on("/token", Answer(body=FRESH))
    connection = make_connection(age=EXPIRED)
    usual, tenant = database.settings_dict["NAME"], f"test_{run_name()}_tenant"
    with database.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {tenant}")
        for table in database.introspection.table_names():
            cursor.execute(f"CREATE TABLE {tenant}.{table} LIKE {usual}.{table}")
            cursor.execute(f"INSERT INTO {tenant}.{table} SELECT * FROM {usual}.{table}")  # noqa: S608
    Connection.objects.all().delete()
    use(tenant)
    yield connection
    use(usual)
    with database.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {tenant}")


def test_without_the_setting_a_row_of_the_tenant_is_hidden_and_nothing_is_sent(moved, scripted):
    with transaction.atomic(), pytest.raises(ConnectionHidden):
        Connection.objects.get(pk=moved.pk).access_token()
    assert scripted.requests == []


def test_an_insert_of_the_callers_is_its_own(scripted, scripted_provider, make_connection):
    scripted.on("/token", Answer(body=FRESH))
    with transaction.atomic():
        assert make_connection(age=EXPIRED).access_token() == "access-1"
