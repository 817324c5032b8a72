"""Promise 2: one refresh per expiry, however many threads, processes and machines ask at once."""

from __future__ import annotations

import pytest
from django.conf import settings

from oauth_connect.models import Connection
from tests.servers.codeyard import Codeyard
from tests.servers.scripted import Answer
from tests.support.aging import age
from tests.support.tokens import FRESH
from tests.support.workers import call_together


@pytest.mark.compliance("D30")
@pytest.mark.django_db(transaction=True)
def test_eight_processes_of_four_threads_make_one_token_request(codeyard, make_connection):
    connection = make_connection("codeyard", age=3600, response=codeyard.grant(lifetime=300))
    codeyard.expire()

    results = call_from_everywhere(codeyard, connection)

    assert results == [{"status": 200, "version": 1}] * 32
    assert codeyard.refreshes == 1
    assert codeyard.stats["reuse_seen"] == 0
    assert codeyard.stats["api_401s"] == 0


@pytest.mark.django_db(transaction=True)
def test_expiry_after_expiry_each_refresh_token_is_spent_once(codeyard, make_connection):
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())
    for _ in range(25):
        Connection.objects.get(pk=connection.pk).refresh()

    assert codeyard.stats["rotations"] == codeyard.refreshes == 25
    assert codeyard.stats["reuse_seen"] == 0


@pytest.mark.django_db(transaction=True)
def test_parallel_callers_refused_with_401_make_one_token_request(codeyard, make_connection):
    """The token looks valid here, and the API refuses it: no expiry tells the callers to wait."""
    connection = make_connection("codeyard", age=100, response=codeyard.grant(lifetime=300))
    codeyard.expire()

    results = call_from_everywhere(codeyard, connection)

    assert results == [{"status": 200, "version": 1}] * 32
    assert codeyard.refreshes == 1


@pytest.mark.compliance("D40")
@pytest.mark.process
@pytest.mark.django_db(transaction=True)
def test_an_api_that_refuses_every_token_of_a_new_account_causes_one_token_request(
    scripted, scripted_provider, make_connection
):
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/api/user", Answer(401))
    connection = make_connection()
    providers = {"PROVIDERS": settings.OAUTH_CONNECT["PROVIDERS"]}
    for _ in range(2):
        results = call_together(
            processes=4, threads=8, connection=str(connection.pk), path="user", settings=providers
        )
        assert [result["status"] for result in results] == [401] * 32
    assert len(scripted.asked("/token")) == 1


@pytest.mark.compliance("D30")
@pytest.mark.django_db(transaction=True)
def test_32_first_callers_of_a_machine_token_make_one_row_and_one_token_request(codeyard, configure):
    configure(PROVIDERS={"reports": codeyard.machine_entry()})

    results = machines_everywhere()

    assert results == [{"status": 200, "version": 1}] * 32
    assert (codeyard.machine_requests, Connection.objects.count()) == (1, 1)

    codeyard.expire()
    age(Connection.objects.get(), 3600)
    assert machines_everywhere() == [{"status": 200, "version": 2}] * 32
    assert (codeyard.machine_requests, Connection.objects.count()) == (2, 1)
    assert codeyard.stats["api_401s"] == 0


def machines_everywhere() -> list[dict[str, object]]:
    providers = {"PROVIDERS": settings.OAUTH_CONNECT["PROVIDERS"]}
    machine = {"provider": "reports", "scopes": ["analytics"]}
    return call_together(processes=8, threads=4, machine=machine, path="analytics", settings=providers)


def call_from_everywhere(codeyard: Codeyard, connection: Connection) -> list[dict[str, object]]:
    providers = {"PROVIDERS": settings.OAUTH_CONNECT["PROVIDERS"]}
    return call_together(
        processes=8, threads=4, connection=str(connection.pk), path="user", settings=providers
    )
