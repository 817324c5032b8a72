"""MariaDB under SERIALIZABLE, where a read locks: a limit of refreshing inside a transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection as database
from django.db import transaction

from oauth_connect.errors import ConnectionLocked
from tests.servers.scripted import Answer
from tests.support.tokens import EXPIRED, FRESH, raw, stored

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.vendor("mysql")]


@contextmanager
def serializable() -> Iterator[None]:
    """A transaction of that level; the session keeps its own."""
    with database.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    with transaction.atomic():
        yield


def test_a_row_that_the_transaction_has_read_is_locked_for_its_own_refresh_and_nothing_is_sent(
    scripted, scripted_provider, make_connection
):
    """The claim, on a connection of its own, waits for the lock that the caller's read has left."""
    scripted.on("/token", Answer(body=FRESH))
    connection = make_connection(age=EXPIRED)

    with serializable(), pytest.raises(ConnectionLocked):
        stored(connection).access_token()

    assert scripted.asked("/token") == []
    untouched = raw(connection).get()
    assert (untouched.version, untouched.lease_owner, untouched.failures) == (0, "", 0)
    assert stored(connection).access_token() == "access-1"


def test_a_row_that_was_read_before_the_transaction_is_refreshed_in_it(
    scripted, scripted_provider, make_connection
):
    scripted.on("/token", Answer(body=FRESH))
    connection = stored(make_connection(age=EXPIRED))

    with serializable():
        assert connection.access_token() == "access-1"
        transaction.set_rollback(True)

    assert stored(connection).token.refresh_token == "refresh-1"
    assert len(scripted.asked("/token")) == 1


def test_a_row_that_the_transaction_has_changed_is_locked_for_a_read_too(
    scripted, scripted_provider, make_connection, monkeypatch
):
    """Where the settings say SERIALIZABLE, our own connection has it too, and its first read waits."""
    connection = make_connection(age=EXPIRED)
    monkeypatch.setitem(database.settings_dict["OPTIONS"], "isolation_level", "serializable")
    database.close()

    with transaction.atomic():
        raw(connection).update(account_label="changed")
        with pytest.raises(ConnectionLocked):
            connection.access_token()
    database.close()

    assert scripted.asked("/token") == []
