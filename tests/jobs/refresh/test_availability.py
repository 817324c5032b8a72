"""Each provider is judged alone. A failure of one provider does not block the others."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest
from django.db import OperationalError

from oauth_connect.conf import conf
from oauth_connect.jobs.refresh import worker_pool
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.run import refresh_due
from oauth_connect.models import Connection, ProviderState
from oauth_connect.models.lifecycle import provider_health
from tests.servers.scripted import Answer
from tests.support.tokens import EXPIRED, FRESH

pytestmark = pytest.mark.django_db(transaction=True)


def shut_vault() -> str:
    raise RuntimeError("the vault is shut")


@pytest.fixture
def two_providers(scripted, scripted_entry: dict[str, Any], configure) -> dict[str, Any]:
    scripted.on("/token", Answer(body=FRESH))
    entries = {"scripted": scripted_entry, "vaulted": {**scripted_entry, "client_secret": shut_vault}}
    configure(PROVIDERS=entries)
    return entries


def versions(provider: str) -> set[int]:
    return set(Connection.objects.filter(provider=provider).values_list("version", flat=True))


def test_an_unavailable_secret_ends_no_run_however_many_rows_need_it(two_providers, make_connection):
    for _ in range(8):  # more than the failures that start a back-off
        make_connection("vaulted", age=2 * EXPIRED)
        make_connection("scripted", age=EXPIRED)

    outcomes = [(result.provider, result.outcome) for result in refresh_due(Due(), workers=2)]

    assert outcomes.count(("scripted", "refreshed")) == 8
    assert versions("scripted") == {1}
    assert versions("vaulted") == {0}
    assert ProviderState.objects.get(provider="vaulted").failures == 1


def test_an_unavailable_secret_stops_no_run_while_its_provider_is_backed_off(two_providers, make_connection):
    provider_health.back_off("default", conf.declared_provider("vaulted"), None)
    make_connection("vaulted", age=2 * EXPIRED)
    make_connection("scripted", age=EXPIRED)

    assert [result.provider for result in refresh_due(Due(), workers=2)] == ["scripted"]


def test_a_run_ends_the_alarm_of_a_provider_that_takes_the_client_again(
    scripted, scripted_provider, make_connection
):
    """Any connection ends it, because the one that started the alarm may be reconnected or deleted."""
    scripted.on("/token", Answer(body=FRESH))
    provider_health.begin_alarm("default", "scripted", "invalid_client")
    for _ in range(3):
        make_connection(age=EXPIRED)

    assert [result.outcome for result in refresh_due(Due(), workers=2)] == ["refreshed"] * 3

    assert ProviderState.objects.get().alarm == ""


def test_a_run_raises_one_alarm_for_all_that_meet_it(scripted, scripted_provider, make_connection, caplog):
    scripted.on("/token", Answer(401, {"error": "invalid_client"}))
    for _ in range(4):
        make_connection(age=EXPIRED)

    assert {result.outcome for result in refresh_due(Due(), workers=2)} == {"misconfigured"}

    assert ProviderState.objects.get().alarm == "invalid_client"
    actions = [getattr(record, "action", "") for record in caplog.records]
    assert actions.count("provider_misconfigured") == 1


def test_where_clients_differ_one_that_is_taken_says_nothing_of_anothers(
    scripted, scripted_entry, configure, make_connection, caplog
):
    tenants = {"tenant": {"source": "user", "pattern": "[a-z]+"}}
    entry = {**scripted_entry, "token_endpoint": f"{scripted.url}/{{tenant}}/token", "variables": tenants}
    configure(PROVIDERS={"scripted": entry})
    scripted.on("/good/token", Answer(body=FRESH))
    scripted.on("/bad/token", Answer(401, {"error": "invalid_client"}))
    for number in range(6):
        make_connection(age=EXPIRED - number, variables={"tenant": "bad" if number % 2 else "good"})

    outcomes = [result.outcome for result in refresh_due(Due(), workers=1)]

    assert sorted(outcomes) == ["misconfigured"] * 3 + ["refreshed"] * 3
    assert ProviderState.objects.get().alarm == "invalid_client"
    actions = [getattr(record, "action", "") for record in caplog.records]
    assert actions.count("provider_misconfigured") == 1


def test_a_function_of_the_site_that_ends_its_thread_does_not_hang_the_run(
    scripted, scripted_entry, configure, make_connection
):
    def without_vault() -> str:
        sys.exit("no vault")

    configure(PROVIDERS={"scripted": {**scripted_entry, "client_secret": without_vault}})
    make_connection(age=EXPIRED)
    assert [result.outcome for result in refresh_due(Due(), workers=2)] == ["failed"]


def test_an_interruption_while_leases_are_freed_leaves_none_behind(
    scripted, scripted_provider, make_connection, monkeypatch
):
    releasing = threading.Event()
    # The second request is in flight until the other claims are released, so that there are other claims.
    scripted.on("/token", Answer(body=FRESH), Answer(body=FRESH, hold=releasing))
    for _ in range(6):
        make_connection(age=EXPIRED)
    freed = worker_pool.release_claims

    def interrupted(claimed: Any) -> None:
        monkeypatch.setattr(worker_pool, "release_claims", freed)
        releasing.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(worker_pool, "release_claims", interrupted)
    monkeypatch.setattr(worker_pool, "COMMIT_BATCH", 1)
    run = refresh_due(Due(), workers=1)
    with pytest.raises(KeyboardInterrupt):
        _ = [run.stop() for _ in run]

    assert set(Connection.objects.filter(version=0).values_list("lease_owner", flat=True)) == {""}


def test_an_error_before_an_interruption_is_logged(
    scripted, scripted_provider, make_connection, monkeypatch, caplog
):
    """Only one of the two errors can be raised."""
    run = worker_pool.WorkerPool(Due(), workers=1)
    run._remember_error(OperationalError("away"))
    run._remember_error(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        list(run)
    assert [getattr(record, "action", "") for record in caplog.records] == ["refresh_crashed"]
