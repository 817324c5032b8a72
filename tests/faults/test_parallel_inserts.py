"""Parallel inserts of one unique key succeed, also if the database ends some as victims of a deadlock.

MariaDB does so after the first of three inserts was rolled back: both others share a lock on the key, and
each waits for the other. The same happens where a row of this key was deleted shortly before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections, transaction

from oauth_connect.conf import conf
from oauth_connect.models import Connection, ConsumedState
from oauth_connect.models.lifecycle import provider_health
from oauth_connect.models.lifecycle.registered_client import client_at
from oauth_connect.models.provider_state import ProviderState
from tests.faults.held import wait_until_somebody_waits
from tests.support.tokens import tokens
from tests.support.waiting import TIMEOUT

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("scripted_provider"),
    pytest.mark.vendor("postgresql", "mysql"),  # on SQLite only one transaction writes at a time
]


@pytest.fixture
def after_a_rollback() -> Callable[[Callable[[], Any]], list[Any]]:
    """Call twice in parallel while a third call, in a transaction, waits to be rolled back."""

    def run(call: Callable[[], Any]) -> list[Any]:
        inserted, end = threading.Event(), threading.Event()

        def first() -> None:
            try:
                with transaction.atomic():
                    call()
                    inserted.set()
                    end.wait(TIMEOUT)
                    transaction.set_rollback(True)
            finally:
                connections.close_all()

        def other() -> Any:
            try:
                return call()
            finally:
                connections.close_all()

        with ThreadPoolExecutor(3) as pool:
            rolled_back = pool.submit(first)
            try:
                assert inserted.wait(TIMEOUT)
                others = [pool.submit(other) for _ in range(2)]
                wait_until_somebody_waits(2)
            finally:
                end.set()
            rolled_back.result()
            return [one.result() for one in others]

    return run


def test_users_who_connect_one_account_in_parallel_share_its_row(after_a_rollback, user):
    response = tokens("first")

    def connect() -> Any:
        return Connection.objects.store(
            owner=user, provider="scripted", account_id="ada", token_response=response
        ).pk

    assert set(after_a_rollback(connect)) == set(Connection.objects.values_list("pk", flat=True))


def test_a_state_is_consumed_once(after_a_rollback):
    later = datetime.now(UTC) + timedelta(minutes=10)
    assert sorted(after_a_rollback(lambda: ConsumedState.objects.consume("state", later))) == [False, True]


def test_an_alarm_begins_once(after_a_rollback, caplog):
    after_a_rollback(lambda: provider_health.begin_alarm("default", "scripted", "invalid_client"))
    assert provider_health.alarms("default") == {"scripted": "invalid_client"}
    # One of the record is of the call that was rolled back.
    assert [record.action for record in caplog.records] == ["provider_misconfigured"] * 2


def test_parallel_runs_back_off_from_one_provider(after_a_rollback):
    after_a_rollback(lambda: provider_health.back_off("default", conf.provider("scripted"), None))
    assert ProviderState.objects.get().blocked_until is not None


def test_of_two_registrations_at_one_server_the_first_is_kept(after_a_rollback):
    names = iter(["rolled back", "second", "third"])

    def register() -> dict[str, str]:
        return {"client_id": next(names), "client_secret": "secret"}

    one, other = after_a_rollback(
        lambda: client_at("scripted", "https://server.example", "https://app.example/callback/", register)
    )
    assert one == other
