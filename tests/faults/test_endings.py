"""A connection ends while somebody else writes to its database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import OperationalError, transaction
from django.db import connection as database

from oauth_connect.engine.store import REVOKED
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.run import refresh_due
from oauth_connect.models import Connection, PendingRevocation
from oauth_connect.models.lifecycle import disconnect, orphan
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.token import Token
from tests.faults.test_transactions import repeatable_read
from tests.servers.scripted import Answer
from tests.support.follow_ups import wait_for_follow_ups
from tests.support.tokens import EXPIRED, FRESH, raw, stored, tokens

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted_provider")]


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
    connection, other = make_connection(), make_connection(response=tokens("other"))
    keep = disconnect._queue_revocation

    def keep_while_others_write(*args: Any) -> Any:
        (met,) = calls_at_once(1, lambda: raw(other).update(account_label="new"))
        assert "locked" in str(met)
        return keep(*args)

    monkeypatch.setattr(disconnect, "_queue_revocation", keep_while_others_write)
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


# --- a token that was minted for a row that is gone -----------------------------------------------


MINTED = Token("access-1", datetime.now(UTC), refresh_token="refresh-1")


class Fault(Exception):
    """Of the site, after the refresh."""


@contextmanager
def rolled_back() -> Iterator[None]:
    with suppress(Fault), transaction.atomic():
        yield
        raise Fault


whatever_the_caller_does = pytest.mark.parametrize(
    "inside", [nullcontext, transaction.atomic, rolled_back], ids=["autocommit", "commit", "rollback"]
)


@pytest.fixture
def gone(make_connection: Any) -> Connection:
    connection: Connection = make_connection()
    raw(connection)._raw_delete("default")
    return connection


@whatever_the_caller_does
def test_what_a_provider_does_not_take_is_kept(gone, scripted, inside):
    scripted.on("/revoke", Answer(503))
    with inside():
        orphan.keep_or_revoke(gone, MINTED)
    wait_for_follow_ups()

    (kept,) = PendingRevocation.objects.all()
    assert (kept.connection_id, kept.open().refresh_token) == (gone.pk, "refresh-1")
    assert kept.next_attempt_at > datetime.now(UTC), "it has just been asked"
    assert len(scripted.asked("/revoke")) == 1


@whatever_the_caller_does
def test_what_a_provider_takes_is_not_kept(gone, scripted, inside):
    scripted.on("/revoke", Answer(200))
    with inside():
        orphan.keep_or_revoke(gone, MINTED)
    wait_for_follow_ups()

    assert [request.form["token"] for request in scripted.asked("/revoke")] == ["refresh-1"]
    assert not PendingRevocation.objects.exists()


@whatever_the_caller_does
def test_it_is_kept_before_the_provider_is_asked(gone, monkeypatch, inside):
    def stopped(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(AuthorizationServer, "revoke", stopped)
    with pytest.raises(KeyboardInterrupt), inside():
        orphan.keep_or_revoke(gone, MINTED)
    wait_for_follow_ups()

    assert PendingRevocation.objects.get().open().refresh_token == "refresh-1"


def test_what_cannot_be_kept_is_revoked_all_the_same(gone, scripted, monkeypatch, caplog):
    def full(*args: Any, **options: Any) -> None:
        raise OperationalError("disk is full")

    monkeypatch.setattr(PendingRevocation, "save", full)
    scripted.on("/revoke", Answer(200))
    orphan.keep_or_revoke(gone, MINTED)

    assert len(scripted.asked("/revoke")) == 1
    assert [record.action for record in caplog.records] == ["revocation_lost"]


def test_a_worker_of_many_holds_no_database_connection_while_it_asks(scripted, make_connection, monkeypatch):
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/revoke", Answer(200))
    connection = make_connection(age=EXPIRED)
    refresh, revoke = AuthorizationServer.refresh, AuthorizationServer.revoke
    held = []

    def delete_meanwhile(*args: Any, **options: Any) -> Token:
        stored(connection).delete()
        database.close()
        return refresh(*args, **options)

    def note(*args: Any) -> bool:
        held.append(database.connection is not None)
        return revoke(*args)

    monkeypatch.setattr(AuthorizationServer, "refresh", delete_meanwhile)
    monkeypatch.setattr(AuthorizationServer, "revoke", note)
    assert [result.outcome for result in refresh_due(Due())] == ["not_needed"]
    assert held == [False]
