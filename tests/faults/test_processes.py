"""Sixteen processes come to one expiry."""

from __future__ import annotations

import threading
import time

import pytest

from oauth_connect.models import PendingRevocation
from tests.faults.processes import Worker, at_once
from tests.faults.worker import BEFORE_CLAIM, BEFORE_SAVE
from tests.servers.scripted import Answer
from tests.support.tokens import FRESH, raw, stored, tokens

pytestmark = pytest.mark.django_db(transaction=True)

EXPIRED, WITHIN_LEEWAY = 7200, 2800
PROCESSES = 16


BEFORE = {"stops": [BEFORE_CLAIM]}


def all_before_a_claim(workers: list[Worker]) -> list[Worker]:
    """Let one thread of each find the lease free, while the others of its process wait for it.

    Only then do they go on, and one gets the lease.
    """
    for worker in at_once(workers):
        worker.until(BEFORE_CLAIM)
    for worker in workers:
        worker.go()
    return workers


@pytest.mark.compliance("D30")
def test_sixteen_processes_make_one_request_and_all_succeed(codeyard, make_connection, start):
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())
    codeyard.expire()

    workers = at_once([start(connection, task="call", path="user") for _ in range(PROCESSES)])

    assert [worker.result() for worker in workers] == [{"status": 200, "version": 1}] * PROCESSES
    assert codeyard.refreshes == 1
    assert codeyard.stats["reuse_seen"] == 0


@pytest.mark.compliance("D30")
def test_while_the_present_token_is_valid_no_process_waits_for_the_one_that_refreshes(
    scripted, scripted_provider, make_connection, start, configure
):
    configure(HTTP_TIMEOUT=50, REFRESH_LEEWAY=900)  # so that the token works for minutes more
    answered = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=answered))
    scripted.on("/api/user", Answer(body={}))
    connection = make_connection(age=WITHIN_LEEWAY)
    orders = {"task": "call", "path": "user"}
    others = [start(connection, **orders) for _ in range(5)]
    leader = start(connection, **orders).ready().go()
    scripted.wait_for("/token")

    at_once(others)

    # The provider answers only after all of them have come back.
    assert [worker.result() for worker in others] == [{"status": 200, "version": 0}] * 5
    answered.set()
    assert leader.result() == {"status": 200, "version": 1}
    sent = [request.headers["Authorization"] for request in scripted.asked("/api/user")]
    assert sent == ["Bearer access-0"] * 5 + ["Bearer access-1"]
    assert len(scripted.asked("/token")) == 1


@pytest.mark.compliance("D30", "D32")
def test_a_failing_provider_gets_one_attempt_and_not_thirty_two(
    scripted, scripted_provider, make_connection, start
):
    # All of them look within the back-off, also on a busy machine.
    scripted.on("/token", Answer(503, headers={"Retry-After": "600"}))
    connection = make_connection(age=EXPIRED)

    workers = all_before_a_claim([start(connection, connection, **BEFORE) for _ in range(PROCESSES)])
    met = [result for worker in workers for result in worker.results()]

    assert len(met) == 32
    assert {(result["error"], result["code"]) for result in met} == {("ProviderUnavailable", "http_503")}
    assert len(scripted.asked("/token")) == 1
    assert stored(connection).failures == 1


@pytest.mark.compliance("D30", "D32")
def test_those_who_insist_on_a_refresh_share_the_leaders_failure_too(
    scripted, scripted_provider, make_connection, start
):
    """``refresh()`` is not held up by a back-off, so only what the leader met keeps them from a try each."""
    scripted.on("/token", Answer(503))
    connection = make_connection(age=EXPIRED)

    workers = all_before_a_claim([start(connection, connection, task="refresh", **BEFORE) for _ in range(4)])
    met = [result for worker in workers for result in worker.results()]

    assert [result["code"] for result in met] == ["http_503"] * 8
    assert len(scripted.asked("/token")) == 1


@pytest.mark.compliance("D30")
def test_of_two_that_both_found_the_lease_free_one_gets_it(
    scripted, scripted_provider, make_connection, start
):
    scripted.on("/token", Answer(body=FRESH), Answer(400, {"error": "invalid_grant"}))
    connection = make_connection(age=EXPIRED)
    slower = start(connection, stops=[BEFORE_CLAIM]).ready().go().until(BEFORE_CLAIM)
    faster = start(connection, stops=[BEFORE_SAVE]).ready().go().until(BEFORE_SAVE)
    theirs = raw(connection).get().lease_owner

    slower.go()
    time.sleep(0.5)  # it must not get the lease: it is at it, or has failed and looks again and again
    assert raw(connection).get().lease_owner == theirs

    faster.go()
    assert [worker.result() for worker in (faster, slower)] == [{"token": "access-1", "version": 1}] * 2
    assert len(scripted.asked("/token")) == 1


def test_a_reconnect_while_another_process_refreshes_leaves_no_token_behind(
    scripted, scripted_provider, make_connection, start
):
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/revoke", Answer(200))
    connection = make_connection(age=EXPIRED, response=tokens("first"))
    worker = start(connection, stops=[BEFORE_SAVE]).ready().go()
    worker.until(BEFORE_SAVE)

    make_connection(account_id=connection.account_id, response=tokens("second"))
    worker.go()

    assert worker.result() == {"token": "access-second", "version": 1}
    stored(connection).disconnect()
    assert {request.form["token"] for request in scripted.asked("/revoke")} == {
        "refresh-first",
        "refresh-1",
        "refresh-second",
    }
    assert not PendingRevocation.objects.exists()
