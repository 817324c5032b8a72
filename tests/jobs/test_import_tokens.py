"""Imports tokens of a made-up package, on each database. tests/contrib/importers has the real packages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError

from oauth_connect.jobs.import_tokens import OUTCOMES, ForeignToken, TokenImport
from oauth_connect.management.reports.import_tokens import REASONS
from oauth_connect.models import Connection, ConnectionEvent
from oauth_connect.models.lifecycle import history
from tests.support.tokens import id_token

pytestmark = pytest.mark.django_db


@pytest.fixture
def row(user: Any, scripted_provider: dict[str, Any]) -> ForeignToken:
    return ForeignToken(
        pk=1,
        provider="theirs",
        user=user,
        account_id="42",
        client_id="client",
        obtained_at=datetime.now(UTC) - timedelta(minutes=5),
        expires_at=datetime.now(UTC) + timedelta(minutes=55),
        access_token="old-access",
        refresh_token="old-refresh",
        profile={"id": 42, "login": "grace"},
    )


def take(*rows: ForeignToken, dry_run: bool = False) -> list[str]:
    token_import = TokenImport("theirs", {"theirs": "scripted"}, dry_run=dry_run)
    return [result.outcome for result in token_import.batch(rows)]


def with_identity(configure: Callable[..., None], entry: dict[str, Any], **changes: Any) -> None:
    configure(PROVIDERS={"scripted": {**entry, **changes}})


@pytest.fixture(autouse=True)
def identified(configure: Callable[..., None], scripted_provider: dict[str, Any]) -> None:
    url = scripted_provider["token_endpoint"].replace("/token", "/user")
    with_identity(configure, scripted_provider, userinfo_endpoint=url)


def test_an_existing_connection_is_unchanged_whatever_its_state(
    row: ForeignToken, make_connection: Callable[..., Connection]
) -> None:
    existing = make_connection(account_id="42")
    existing.disconnect()
    before = Connection.objects.values().get()
    assert take(row) == ["already_here"]
    assert Connection.objects.values().get() == before


@pytest.mark.django_db(transaction=True)
def test_only_one_of_parallel_importers_inserts_a_row(
    row: ForeignToken, calls_at_once: Callable[[int, Callable[[], Any]], list[Any]]
) -> None:
    many = [replace(row, pk=number, account_id=str(number), profile={}) for number in range(50)]
    runs = calls_at_once(4, lambda: take(*many))
    assert Counter(outcome for run in runs for outcome in run) == {"imported": 50, "already_here": 150}
    assert Connection.objects.count() == 50


@pytest.mark.django_db(transaction=True)
def test_a_run_that_dies_before_the_history_is_written_leaves_the_whole_row_to_the_next(
    row: ForeignToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_once(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        take(row)
    assert take(row) == ["imported"]
    event = ConnectionEvent.objects.get()
    assert (event.connection_id, event.action) == (Connection.objects.get().pk, "connected")
    assert event.detail == {"imported_from": "theirs"}


@pytest.mark.django_db(transaction=True)
def test_a_deadlock_with_another_importer_is_tried_again(
    row: ForeignToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_once(monkeypatch, OperationalError(1213, "Deadlock found when trying to get lock"))
    assert take(row) == ["imported"]
    assert ConnectionEvent.objects.get().connection_id == Connection.objects.get().pk


def raise_once(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Raise instead of writing the history. The rows are inserted then, and nothing is committed."""
    write = history.write

    def fail(*args: Any) -> None:
        monkeypatch.setattr(history, "write", write)
        raise error

    monkeypatch.setattr(history, "write", fail)


def test_the_first_of_two_rows_of_one_account_is_taken(row: ForeignToken) -> None:
    twice = [row, replace(row, pk=2, access_token="another")]
    assert take(*twice, dry_run=True) == ["imported", "already_here"]
    assert Connection.objects.count() == 0
    assert take(*twice) == ["imported", "already_here"]
    assert Connection.objects.get().token.access_token == "old-access"


def test_a_dry_run_counts_an_account_once_over_all_batches(row: ForeignToken) -> None:
    dry = TokenImport("theirs", {"theirs": "scripted"}, dry_run=True)
    outcomes = [result.outcome for _ in range(2) for result in dry.batch([row])]
    assert outcomes == ["imported", "already_here"]


def test_a_hundred_rows_cost_a_handful_of_statements(
    row: ForeignToken, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    many = [replace(row, pk=number, account_id=str(number), profile={}) for number in range(100)]
    with django_assert_max_num_queries(12):
        assert set(take(*many)) == {"imported"}


def test_without_an_identity_the_account_is_the_only_one_as_when_connecting(
    row: ForeignToken, configure: Callable[..., None], scripted_provider: dict[str, Any]
) -> None:
    with_identity(configure, scripted_provider)
    assert take(row) == ["imported"]
    assert Connection.objects.get().account_id == ""


def test_a_token_that_was_used_after_its_end_has_no_negative_lifetime(row: ForeignToken) -> None:
    ended = datetime.now(UTC) - timedelta(hours=1)
    assert take(replace(row, obtained_at=datetime.now(UTC), expires_at=ended)) == ["imported"]
    token = Connection.objects.get().token
    assert token.expires_at == ended
    assert token.lifetime == timedelta(0)


HOUR_AGO = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


def test_a_token_without_an_expiry_has_its_own(row: ForeignToken) -> None:
    access_token = id_token(exp=int(HOUR_AGO.timestamp()))
    assert take(replace(row, expires_at=None, access_token=access_token)) == ["imported"]
    assert Connection.objects.get().expires_at == HOUR_AGO
    assert Connection.objects.due().count() == 1


def test_a_token_without_any_expiry_is_assumed_to_live_as_long_as_the_entry_says(
    row: ForeignToken, configure: Callable[..., None], scripted_provider: dict[str, Any]
) -> None:
    url = scripted_provider["token_endpoint"].replace("/token", "/user")
    assumed = {"assumed_lifetime": 3600}
    with_identity(configure, scripted_provider, userinfo_endpoint=url, token_response=assumed)
    old = replace(row, expires_at=None, obtained_at=HOUR_AGO)
    for_ever = replace(old, pk=2, refresh_token="", account_id="43", profile={})
    assert take(old, for_ever) == ["imported", "imported"]
    assert Connection.objects.get(account_id="42").expires_at == HOUR_AGO + timedelta(hours=1)
    assert Connection.objects.get(account_id="43").expires_at is None, "it may live longer"
    assert [one.account_id for one in Connection.objects.due()] == ["42"]


@pytest.mark.parametrize(("lifetime", "ends"), [(7200, HOUR_AGO + timedelta(hours=2)), (1800, None)])
def test_a_token_that_is_exchanged_is_assumed_to_live_on_only_if_it_can_still_be(
    row: ForeignToken,
    configure: Callable[..., None],
    scripted_provider: dict[str, Any],
    lifetime: int,
    ends: datetime | None,
) -> None:
    exchange = {"style": "exchange_access_token", "exchange_grant_type": "x", "exchange_parameter": "t"}
    url = scripted_provider["token_endpoint"].replace("/token", "/user")
    assumed = {"assumed_lifetime": lifetime}
    with_identity(
        configure, scripted_provider, userinfo_endpoint=url, token_response=assumed, refresh=exchange
    )
    old = replace(row, expires_at=None, obtained_at=HOUR_AGO, refresh_token="")
    assert take(old) == ["imported"]
    connection = Connection.objects.get()
    assert connection.expires_at == ends
    assert Connection.objects.due(timedelta(hours=1)).count() == bool(ends)


@pytest.mark.parametrize("account_id", ["", "x" * 256, "nul\x00"])
def test_an_account_id_that_no_row_can_store_fails_only_its_own_row(
    row: ForeignToken, account_id: str
) -> None:
    bad = replace(row, pk=2, account_id=account_id, profile={})
    assert take(bad, row) == ["unreadable", "imported"]


def test_an_object_that_is_no_user_of_this_site_gets_nothing(row: ForeignToken) -> None:
    assert take(replace(row, user=object())) == ["no_user"]
    assert take(replace(row, user=None)) == ["no_user"]


def test_a_found_row_shows_no_token(row: ForeignToken) -> None:
    assert "old-" not in repr(row)


def test_every_failed_outcome_has_a_text() -> None:
    assert set(REASONS) == set(OUTCOMES) - {"imported", "already_here"}
