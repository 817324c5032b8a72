"""Disconnecting ends all that a provider has issued, also what the row does not hold any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections, transaction

from oauth_connect.errors import ReauthorizationRequired
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.run import refresh_due
from oauth_connect.models import Connection, PendingRevocation
from oauth_connect.models.lifecycle import disconnect, orphan, revocation
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.token import Token
from tests.faults.held import wait_until_somebody_waits
from tests.servers.scripted import Answer
from tests.support.follow_ups import wait_for_follow_ups
from tests.support.tokens import EXPIRED, FRESH, raw, stored, tokens
from tests.support.waiting import TIMEOUT, tally_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted_provider")]


@pytest.fixture
def connect(make_connection: Any) -> Callable[..., Connection]:
    """Connect one account with the tokens of a name."""

    def make(name: str, *, account: str = "ada", **options: Any) -> Connection:
        more = options.pop("more", {})
        connection: Connection = make_connection(account_id=account, response=tokens(name, **more), **options)
        return connection

    return make


@pytest.fixture
def settings_of(configure: Any, scripted_entry: Any, scripted: Any) -> Callable[..., None]:
    """Change the provider's table ``revocation``."""
    scripted.on("/revoke", Answer(200))

    def change(**rules: Any) -> None:
        configure(PROVIDERS={"scripted": {**scripted_entry, "revocation": rules}})

    return change


@pytest.fixture
def revoked(scripted: Any) -> Callable[[], list[str]]:
    """Return the tokens that the provider was asked to revoke, in order."""
    scripted.on("/revoke", Answer(200))
    return lambda: [request.form["token"] for request in scripted.asked("/revoke")]


def kept() -> list[str]:
    return [one.open().refresh_token for one in PendingRevocation.objects.kept().order_by("created_at")]


def waiting() -> list[str]:
    return [one.open().refresh_token for one in PendingRevocation.objects.waiting().order_by("created_at")]


def prune() -> None:
    call_command("oauth_prune", verbosity=0)


# --- what a reconnect writes over ------------------------------------------------------------------


def test_a_disconnect_revokes_the_tokens_of_every_consent(connect, revoked):
    for name in ("first", "second"):
        connect(name)
    connection = connect("third")
    assert kept() == ["refresh-first", "refresh-second"]

    connection.disconnect()

    assert revoked() == ["refresh-third", "refresh-second", "refresh-first"]
    assert not PendingRevocation.objects.exists()


def test_a_reconnect_after_a_lost_rotation_keeps_what_may_live(connect):
    raw(connect("first")).update(status="reauthorization_required", last_error="rotation_lost")
    connect("second")
    assert kept() == ["refresh-first"]


def test_a_grant_that_was_told_to_be_revoked_is_not_kept(connect):
    raw(connect("first")).update(status="reauthorization_required", last_error="revoked")
    connect("second")
    assert not PendingRevocation.objects.exists()


def test_the_same_refresh_token_is_not_kept(connect):
    connect("same")
    connect("same", more={"access_token": "access-new"})
    assert not PendingRevocation.objects.exists()


def test_a_consent_without_a_refresh_token_keeps_nothing_aside(connect):
    connect("first")
    connection = connect("", more={"refresh_token": None})
    assert connection.token.refresh_token == "refresh-first"
    assert not PendingRevocation.objects.exists()


def test_an_access_token_without_a_refresh_token_is_kept_while_it_works(connect):
    connect("first", more={"refresh_token": None})
    connect("second", more={"refresh_token": None})
    assert PendingRevocation.objects.kept().get().open().access_token == "access-first"


def test_what_has_expired_is_not_kept(connect):
    connect("first", more={"refresh_token": None}, age=EXPIRED)
    connect("second")
    assert not PendingRevocation.objects.exists()


def test_twenty_tokens_of_an_account_are_kept_the_newest(connect):
    for number in range(22):
        connect(str(number))
    connect("other", account="linus")
    connect("others", account="linus")
    assert kept() == [*(f"refresh-{number}" for number in range(1, 21)), "refresh-other"]


def test_a_reconnect_that_is_rolled_back_keeps_nothing(connect):
    connection = connect("first")
    with transaction.atomic():
        connect("second")
        transaction.set_rollback(True)
    assert stored(connection).token.refresh_token == "refresh-first"
    assert not PendingRevocation.objects.exists()


def test_a_token_that_no_key_opens_stops_no_reconnect(connect, caplog):
    first = connect("first")
    raw(first).update(sealed_token=connect("other", account="linus").sealed_token)
    connect("second")
    assert not PendingRevocation.objects.exists()
    assert [record.action for record in caplog.records] == ["token_unopened"]


# --- a refresh whose row was connected again ------------------------------------------------------


@pytest.fixture
def meanwhile(monkeypatch: Any) -> Callable[[Callable[[], object]], None]:
    """Do something after a refresh was answered and before its token is saved."""

    def arrange(happens: Callable[[], object]) -> None:
        refresh = AuthorizationServer.refresh

        def refresh_and_more(*args: Any, **options: Any) -> Token:
            token = refresh(*args, **options)
            monkeypatch.setattr(AuthorizationServer, "refresh", refresh)
            happens()
            return token

        monkeypatch.setattr(AuthorizationServer, "refresh", refresh_and_more)

    return arrange


def alone(connection: Connection) -> None:
    stored(connection).refresh()


def in_bulk(connection: Connection) -> None:
    assert len(list(refresh_due(Due()))) == 1


@pytest.mark.parametrize("way", [alone, in_bulk])
def test_a_reconnect_during_a_refresh_leaves_no_token_behind(way, connect, meanwhile, scripted, revoked):
    scripted.on("/token", Answer(body=FRESH))
    connection = connect("first", age=EXPIRED)
    meanwhile(lambda: connect("second"))

    way(connection)

    assert stored(connection).token.refresh_token == "refresh-second"
    assert sorted(kept()) == ["refresh-1", "refresh-first"]
    stored(connection).disconnect()
    assert sorted(revoked()) == ["refresh-1", "refresh-first", "refresh-second"]


@pytest.mark.vendor("postgresql", "mysql")  # on SQLite nobody reconnects during the caller's transaction
@pytest.mark.parametrize("rolls_back", [False, True], ids=["commit", "rollback"])
def test_in_a_transaction_such_a_token_is_kept_whatever_becomes_of_it(
    rolls_back, connect, meanwhile, scripted, calls_at_once
):
    scripted.on("/token", Answer(body=FRESH))
    connection = connect("first", age=EXPIRED)

    def elsewhere() -> None:
        assert calls_at_once(1, lambda: connect("second").pk) == [connection.pk]

    with transaction.atomic():
        mine = stored(connection)
        meanwhile(elsewhere)
        mine.refresh()
        transaction.set_rollback(rolls_back)
    wait_for_follow_ups()

    assert sorted(kept()) == ["refresh-1", "refresh-first"]


def test_a_disconnect_during_a_refresh_leaves_no_token_behind(connect, meanwhile, scripted, revoked):
    scripted.on("/token", Answer(body=FRESH))
    connection = connect("first", age=EXPIRED)
    meanwhile(lambda: stored(connection).disconnect())

    with pytest.raises(ReauthorizationRequired):
        connection.refresh()

    assert sorted(revoked()) == ["refresh-1", "refresh-first"]
    assert not PendingRevocation.objects.exists()


@pytest.mark.vendor("postgresql", "mysql")
def test_a_disconnect_waits_for_a_late_token_and_revokes_it(connect, revoked, monkeypatch):
    connection = connect("first")
    late = Token("access-late", datetime.now(UTC), refresh_token="refresh-late")
    found, go_on = threading.Event(), threading.Event()
    find = orphan.Orphan._find_row

    def find_and_pause(*args: Any, **options: Any) -> bool:
        present = find(*args, **options)
        found.set()
        assert go_on.wait(TIMEOUT)
        return present

    monkeypatch.setattr(orphan.Orphan, "_find_row", find_and_pause)
    with ThreadPoolExecutor(2) as pool:
        keeping = pool.submit(closing_connections, lambda: orphan.keep_or_revoke(connection, late))
        assert found.wait(TIMEOUT)
        ending = pool.submit(closing_connections, stored(connection).disconnect)
        wait_until_somebody_waits()
        go_on.set()
        keeping.result()
        ending.result()

    assert revoked() == ["refresh-first", "refresh-late"]
    assert not PendingRevocation.objects.exists()


@pytest.mark.vendor("postgresql", "mysql")  # on SQLite only one transaction writes at a time
def test_a_reconnect_and_a_late_token_may_both_drop_the_oldest_kept_token(connect, monkeypatch):
    """They lock the connection's row first. In another order they would be a deadlock."""
    for number in range(revocation.MAX_KEPT + 1):
        connection = connect(str(number))
    late = Token("access-late", datetime.now(UTC), refresh_token="refresh-late")
    tries = tally_of(monkeypatch, orphan.Orphan, "_store")
    locked, go_on = threading.Event(), threading.Event()

    def reconnect() -> None:
        with transaction.atomic():
            Connection.objects.filter(pk=connection.pk).update(account_label="locked")
            locked.set()
            assert go_on.wait(TIMEOUT)
            connect("again")

    with ThreadPoolExecutor(2) as pool:
        reconnecting = pool.submit(closing_connections, reconnect)
        assert locked.wait(TIMEOUT)
        keeping = pool.submit(closing_connections, lambda: orphan.keep_or_revoke(connection, late))
        wait_until_somebody_waits()
        go_on.set()
        reconnecting.result()
        keeping.result()

    assert tries.count == 1
    assert stored(connection).token.refresh_token == "refresh-again"
    assert kept()[-2:] == ["refresh-20", "refresh-late"]
    assert len(kept()) == revocation.MAX_KEPT


def closing_connections(call: Callable[[], object]) -> None:
    try:
        call()
    finally:
        connections.close_all()


# --- whose token it is -------------------------------------------------------------------------------


def test_what_another_owner_s_connection_needs_is_revoked_with_the_last_one(
    connect, other_user, scripted, revoked
):
    mine, other = connect("mine"), connect("other", owner=other_user)
    mine.disconnect()
    assert (revoked(), kept()) == ([], ["refresh-mine"])

    other.disconnect()
    assert revoked() == ["refresh-other", "refresh-mine"]
    assert not PendingRevocation.objects.exists()


def test_what_is_spared_again_is_kept_again(connect, user, other_user, revoked):
    connections = [connect(name, owner=owner) for name, owner in (("a", user), ("b", other_user))]
    connect("c", owner=user)
    assert kept() == ["refresh-a"]

    stored(connections[0]).disconnect()
    assert (revoked(), sorted(kept())) == ([], ["refresh-a", "refresh-c"])

    connections[1].disconnect()
    assert sorted(revoked()) == ["refresh-a", "refresh-b", "refresh-c"]


def test_where_the_account_is_unknown_the_owner_s_tokens_are_meant(connect, other_user, revoked):
    connect("first", account="")
    connect("others", account="", owner=other_user)
    connect("others-2", account="", owner=other_user)
    connect("second", account="").disconnect()
    assert revoked() == ["refresh-second", "refresh-first"]
    assert kept() == ["refresh-others"]


def test_another_account_s_tokens_stay_kept(connect, revoked):
    connect("first", account="linus")
    connect("second", account="linus")
    connect("ada").disconnect()
    assert (revoked(), kept()) == (["refresh-ada"], ["refresh-first"])


# --- a revocation that ends the token alone -----------------------------------------------------------


def test_where_each_token_ends_alone_prune_revokes_it_soon(connect, settings_of, revoked):
    settings_of(effect="token")
    connect("first")
    connect("second")
    assert (revoked(), waiting()) == ([], ["refresh-first"]), "not while the user waits for the page"

    prune()

    assert revoked() == ["refresh-first"]
    assert not PendingRevocation.objects.exists()


@pytest.mark.parametrize("effect", ["token", "grant", "account"])
def test_a_token_that_a_connection_holds_is_never_revoked(effect, connect, settings_of, revoked):
    """Some providers issue the same tokens again at each consent."""
    settings_of(effect=effect)
    connect("first")
    connect("second")
    connection = connect("first")
    prune()
    assert "refresh-first" not in revoked()
    assert stored(connection).token.refresh_token == "refresh-first"

    connection.disconnect()
    assert "refresh-first" in revoked()


# --- a disconnect does not take long, and what is kept does not stay for ever ---------------------------


def test_a_disconnect_revokes_a_few_kept_tokens_and_prune_the_others(connect, revoked):
    for number in range(9):
        connection = connect(str(number))
    connection.disconnect()
    assert revoked() == [f"refresh-{number}" for number in (8, 7, 6, 5, 4, 3)]
    assert waiting() == ["refresh-0", "refresh-1", "refresh-2"]

    prune()
    assert len(revoked()) == 9
    assert not PendingRevocation.objects.exists()


def test_a_provider_that_does_not_answer_is_asked_once_by_a_disconnect(connect, scripted):
    scripted.on("/revoke", Answer(503))
    for name in ("a", "b", "c"):
        connection = connect(name)
    connection.disconnect()
    assert len(scripted.asked("/revoke")) == 1
    assert sorted(waiting()) == ["refresh-a", "refresh-b", "refresh-c"]


def test_all_kept_tokens_together_take_one_http_timeout(connect, revoked, monkeypatch, settings_of):
    settings_of()
    clock = iter([0.0, 1.0, 14.0, 15.1])  # the first sets the deadline, of fifteen seconds
    monkeypatch.setattr(disconnect, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    for name in ("a", "b", "c", "d"):
        connection = connect(name)
    connection.disconnect()
    assert revoked() == ["refresh-d", "refresh-c", "refresh-b"]
    assert waiting() == ["refresh-a"]


def test_the_tokens_of_a_deleted_row_are_revoked_by_prune(connect, revoked):
    connect("first")
    connect("second").delete()
    assert revoked() == []
    prune()
    assert sorted(revoked()) == ["refresh-first", "refresh-second"]


def test_a_disconnect_that_is_rolled_back_leaves_what_was_kept(connect, revoked):
    connect("first")
    connection = connect("second")
    with transaction.atomic():
        connection.disconnect()
        transaction.set_rollback(True)
    assert (revoked(), kept()) == ([], ["refresh-first"])


def test_prune_deletes_what_has_expired_and_what_is_older_than_revoked_days(connect, configure):
    for name, account in (("a", "1"), ("b", "2"), ("c", "3")):
        connect(name, account=account)
        connect(f"{name}-2", account=account)
    rows = PendingRevocation.objects.all()
    by_name = {one.open().refresh_token: rows.filter(pk=one.pk) for one in rows}
    by_name["refresh-a"].update(expires_at=datetime.now(UTC) - timedelta(minutes=1))
    by_name["refresh-b"].update(created_at=datetime.now(UTC) - timedelta(days=366))
    configure(REVOKED_DAYS=None)
    prune()
    assert kept() == ["refresh-b", "refresh-c"]
    configure(REVOKED_DAYS=365)
    prune()
    assert kept() == ["refresh-c"]


# --- a provider that cannot revoke ---------------------------------------------------------------------


def test_where_nothing_can_be_revoked_nothing_is_kept(connect, settings_of, other_user):
    settings_of(style="none")
    connect("other", owner=other_user)
    connect("first")
    connect("second").disconnect()
    assert not PendingRevocation.objects.exists()


def test_a_token_whose_sibling_ends_at_that_moment_is_not_kept_for_ever(
    connect, other_user, monkeypatch, revoked
):
    """The connection that a token was spared for ends between the look at it and the keeping."""
    mine, other = connect("mine"), connect("other", owner=other_user)
    keep_again = revocation.keep_again

    def end_first(*args: Any) -> None:
        monkeypatch.setattr(revocation, "keep_again", keep_again)
        other.disconnect()
        keep_again(*args)

    monkeypatch.setattr(revocation, "keep_again", end_first)
    mine.disconnect()
    assert not kept()
    prune()
    assert sorted(revoked()) == ["refresh-mine", "refresh-other"]
