"""A connection ends while somebody else writes to its database."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection as database

from oauth_connect.engine.store import REVOKED
from oauth_connect.models import ending
from tests.faults.processes import raw, stored
from tests.faults.test_transactions import repeatable_read
from tests.servers.scripted import Answer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted_provider")]

FRESH = {"access_token": "access-1", "refresh_token": "refresh-1", "token_type": "Bearer", "expires_in": 3600}
EXPIRED = 7200


@pytest.fixture
def deferred() -> Any:
    """Transactions on SQLite as Django begins them by default: as readers."""
    options = database.settings_dict["OPTIONS"]
    database.close()
    options.update(transaction_mode=None, timeout=0.2)
    yield
    database.close()
    options.update(transaction_mode="IMMEDIATE", timeout=20)


@pytest.mark.vendor("sqlite")
@pytest.mark.usefixtures("deferred")
def test_a_disconnect_on_sqlite_is_not_locked_out_by_another_write(
    scripted, make_connection, monkeypatch, calls_at_once
):
    """It holds the database from its first statement on: whoever writes meanwhile waits, not it."""
    scripted.on("/revoke", Answer(200))
    connection, other = make_connection(), make_connection()
    keep = ending._keep

    def keep_while_others_write(*args: Any) -> Any:
        (met,) = calls_at_once(1, lambda: raw(other).update(account_label="new"))
        assert "locked" in str(met)
        return keep(*args)

    monkeypatch.setattr(ending, "_keep", keep_while_others_write)
    connection.disconnect()

    assert stored(connection).status == REVOKED
    assert [request.form["token"] for request in scripted.asked("/revoke")] == ["refresh-0"]


@pytest.mark.vendor("mysql")
def test_a_disconnect_behind_an_old_snapshot_revokes_the_present_token(scripted, make_connection, start):
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/revoke", Answer(200))
    connection = make_connection(age=EXPIRED)
    other = start(connection).ready()

    with repeatable_read():
        mine = stored(connection)
        assert other.go().result() == {"token": "access-1", "version": 1}
        mine.disconnect()
        assert mine.version == 2

    assert [request.form["token"] for request in scripted.asked("/revoke")] == ["refresh-1"]
    gone = raw(connection).get()
    assert (gone.status, gone.version, gone.sealed_token) == (REVOKED, 2, None)
