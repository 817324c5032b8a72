"""Machines whose clocks are ten minutes off, and tokens that live shorter than the leeway."""

from __future__ import annotations

import pytest

from tests.faults.processes import at_once
from tests.faults.worker import BEFORE_SAVE
from tests.servers.scripted import Answer
from tests.support.tokens import FRESH, raw, stored

pytestmark = pytest.mark.django_db(transaction=True)

FAST, RIGHT, SLOW = 600, 0, -600
each_clock = pytest.mark.parametrize("clock", [FAST, RIGHT, SLOW], ids=["fast", "right", "slow"])


@pytest.mark.compliance("D35")
@each_clock
def test_whatever_its_clock_a_machine_gets_through_an_expiry_with_one_refresh(
    codeyard, make_connection, start, clock
):
    connection = make_connection("codeyard", age=100, response=codeyard.grant())
    codeyard.expire()

    met = start(connection, task="call", path="user", times=3, clock=clock).ready().go().result()

    assert met == {"status": 200, "version": 1}
    assert codeyard.refreshes == 1
    assert stored(connection).status == "active"


@pytest.mark.compliance("D35")
@each_clock
def test_a_token_that_a_fast_machine_obtained_is_renewed_by_any_other(
    codeyard, make_connection, start, clock
):
    """By the clocks of the others it comes from the future, and lives on after its real end."""
    connection = make_connection("codeyard", age=-FAST + 310, response=codeyard.grant())
    codeyard.expire()

    met = start(connection, task="call", path="user", times=3, clock=clock).ready().go().result()

    assert met == {"status": 200, "version": 1}
    assert codeyard.refreshes == 1


@pytest.mark.compliance("D35", "D30")
def test_machines_that_disagree_about_the_time_spend_no_token_twice(codeyard, make_connection, start):
    """To some the token of another has run out, so each kind may refresh; never with the same token."""
    connection = make_connection("codeyard", age=310, response=codeyard.grant())
    codeyard.expire()

    orders = {"task": "call", "path": "user", "times": 2}
    workers = at_once([start(connection, clock=clock, **orders) for clock in (FAST, RIGHT, SLOW) * 2])

    # Codeyard ends an access token with its rotation: a call that meets two of those, has had its one retry.
    assert {worker.result()["status"] for worker in workers} <= {200, 401}
    assert codeyard.stats["reuse_seen"] == 0
    assert codeyard.refreshes <= 3
    settled = [
        start(connection, clock=clock, **orders).ready().go().result() for clock in (FAST, RIGHT, SLOW)
    ]
    assert [met["status"] for met in settled] == [200] * 3
    assert codeyard.refreshes <= 3
    assert stored(connection).status == "active"


@pytest.mark.compliance("D35")
@pytest.mark.parametrize("clock", [FAST, SLOW], ids=["fast", "slow"])
def test_a_wrong_clock_steals_no_lease(scripted, scripted_provider, make_connection, start, clock):
    """The other waits for hardly more than five seconds, and the leader's lease lasts for thirty."""
    scripted.on("/token", Answer(body=FRESH))
    connection = make_connection(age=100_000)
    other = start(connection, clock=clock, HTTP_TIMEOUT=0.1).ready()
    leader = start(connection, stops=[BEFORE_SAVE]).ready().go().until(BEFORE_SAVE)
    theirs = raw(connection).get().lease_owner

    met = other.go().result()

    assert (met["error"], met["code"]) == ("ProviderUnavailable", "busy")
    assert raw(connection).get().lease_owner == theirs
    assert len(scripted.asked("/token")) == 1
    assert leader.go().result()["token"] == "access-1"


def test_a_token_that_lives_shorter_than_the_leeway_is_refreshed_once_by_many_callers(
    scripted, scripted_provider, make_connection, start, configure
):
    """Otherwise each call would find it within its leeway, and refresh."""
    configure(REFRESH_LEEWAY=900)
    short = {**FRESH, "expires_in": 800}
    scripted.on("/token", Answer(body=short))
    scripted.on("/api/user", Answer(body={}))
    connection = make_connection(age=700, response={**short, "refresh_token": "refresh-0"})

    workers = at_once([start(connection, task="call", path="user", times=5) for _ in range(4)])

    assert [worker.result()["status"] for worker in workers] == [200] * 4
    assert len(scripted.asked("/token")) == 1
