"""A process is killed, or stops for too long, at each point of a refresh. Killed means ``kill -9``."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection as database

from oauth_connect.engine.store import ACTIVE, REAUTHORIZATION_REQUIRED
from oauth_connect.errors import ProviderUnavailable, ReauthorizationRequired
from tests.faults.processes import let_back_off_pass, let_lease_run_out
from tests.faults.worker import AFTER_SAVE, BEFORE_POST, BEFORE_SAVE
from tests.servers.scripted import Answer
from tests.support.tokens import EXPIRED, raw, stored

pytestmark = pytest.mark.django_db(transaction=True)

REFUSED = Answer(400, {"error": "invalid_grant"})


def rotated(number: int = 1) -> dict[str, Any]:
    names = {"access_token": f"access-{number}", "refresh_token": f"refresh-{number}"}
    return {**names, "token_type": "Bearer", "expires_in": 3600}


# --- killed ---------------------------------------------------------------------------------------


@pytest.mark.compliance("D31")
def test_killed_before_the_post_the_next_one_refreshes_when_the_lease_has_run_out(
    codeyard, make_connection, start
):
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())
    start(connection, stops=[BEFORE_POST]).ready().go().until(BEFORE_POST).kill()
    assert codeyard.refreshes == 0
    assert raw(connection).get().lease_owner

    let_lease_run_out(connection)
    assert stored(connection).session().get("user").status_code == 200

    healed = raw(connection).get()
    assert (healed.status, healed.version, healed.in_doubt, healed.lease_owner) == (ACTIVE, 1, False, "")
    assert codeyard.refreshes == 1


@pytest.mark.compliance("D31")
def test_killed_between_response_and_save_it_ends_as_rotation_lost_without_a_loop(
    codeyard, make_connection, start
):
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())
    start(connection, stops=[BEFORE_SAVE]).ready().go().until(BEFORE_SAVE).kill()
    assert codeyard.refreshes == 1

    let_lease_run_out(connection)
    for _ in range(3):
        with pytest.raises(ReauthorizationRequired) as caught:
            stored(connection).access_token()
    assert caught.value.reason == "rotation_lost"
    assert stored(connection).status == REAUTHORIZATION_REQUIRED
    assert codeyard.refreshes == 2, "one request finds out, and no further one is made"


@pytest.mark.compliance("D31")
def test_a_revocation_differs_from_a_lost_rotation(codeyard, make_connection, start):
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())
    codeyard.revoke()
    met = start(connection).ready().go().result()
    assert (met["error"], met["code"]) == ("ReauthorizationRequired", "revoked")
    assert stored(connection).last_error == "revoked"


@pytest.mark.compliance("D31")
def test_killed_between_answer_and_save_a_grace_window_heals(
    scripted, scripted_provider, make_connection, start
):
    scripted.on("/token", Answer(body=rotated(1)), Answer(body=rotated(2)))
    connection = make_connection(age=EXPIRED)
    start(connection, stops=[BEFORE_SAVE]).ready().go().until(BEFORE_SAVE).kill()

    let_lease_run_out(connection)
    assert stored(connection).access_token() == "access-2"

    healed = raw(connection).get()
    assert (healed.status, healed.in_doubt, healed.token.refresh_token) == (ACTIVE, False, "refresh-2")
    assert [request.form["refresh_token"] for request in scripted.asked("/token")] == ["refresh-0"] * 2


@pytest.mark.compliance("D31")
def test_killed_after_the_save_nothing_is_missing(codeyard, make_connection, start):
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())
    start(connection, stops=[AFTER_SAVE]).ready().go().until(AFTER_SAVE).kill()

    kept = raw(connection).get()
    assert (kept.status, kept.version, kept.lease_owner) == (ACTIVE, 1, "")
    assert stored(connection).session().get("user").status_code == 200
    assert codeyard.refreshes == 1


@pytest.mark.compliance("D31")
def test_until_a_killed_leaders_lease_has_run_out_no_other_process_sends_a_request(
    scripted, scripted_provider, make_connection, start, configure
):
    scripted.on("/token", Answer(body=rotated()))
    connection = make_connection(age=EXPIRED)
    start(connection, stops=[BEFORE_SAVE]).ready().go().until(BEFORE_SAVE).kill()

    configure(HTTP_TIMEOUT=0.1)  # the killed one's lease is that of a longer time-out
    with pytest.raises(ProviderUnavailable) as caught:  # after five seconds and the time-out
        stored(connection).access_token()
    assert caught.value.code == "busy"
    assert len(scripted.asked("/token")) == 1


@pytest.mark.compliance("D31")
def test_a_process_killed_in_its_callers_transaction_keeps_what_it_saved(codeyard, make_connection, start):
    """Not so on SQLite, where the token is in the caller's transaction until that ends (a check warns)."""
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())
    worker = start(connection, stops=[AFTER_SAVE], inside=["atomic"]).ready().go().until(AFTER_SAVE)
    worker.kill()

    found = raw(connection).get()
    if database.vendor != "sqlite":
        assert (found.version, found.lease_owner) == (1, "")
        assert stored(connection).session().get("user").status_code == 200
        assert codeyard.refreshes == 1
    else:
        assert found.version == 0
        with pytest.raises(ReauthorizationRequired):
            stored(connection).access_token()


# --- slow -----------------------------------------------------------------------------------------


def test_a_leader_that_was_stopped_for_longer_than_its_lease_sends_nothing(
    scripted, scripted_provider, make_connection, start
):
    scripted.on("/token", Answer(body=rotated()))
    connection = make_connection(age=EXPIRED)
    met = start(connection, slept=60).ready().go().result()
    assert (met["error"], met["code"]) == ("ProviderUnavailable", "busy")
    assert not scripted.requests
    assert raw(connection).get().lease_owner == ""
    assert stored(connection).access_token() == "access-1"


def test_of_two_leaders_the_late_answer_heals_the_mark_of_the_early_one(
    scripted, scripted_provider, make_connection, start
):
    """The slow one has the answer; the fast one spends the same token again, and is refused."""
    scripted.on("/token", Answer(body=rotated()), REFUSED)
    connection = make_connection(age=EXPIRED)
    slow = start(connection, stops=[BEFORE_SAVE]).ready().go().until(BEFORE_SAVE)
    let_lease_run_out(connection)

    fast = start(connection).ready().go().result()
    assert (fast["error"], fast["code"]) == ("ReauthorizationRequired", "rotation_lost")
    assert stored(connection).status == REAUTHORIZATION_REQUIRED

    assert slow.go().result() == {"token": "access-1", "version": 1}
    kept = raw(connection).get()
    assert (kept.status, kept.token.refresh_token, kept.in_doubt) == (ACTIVE, "refresh-1", False)
    assert len(scripted.asked("/token")) == 2


def test_of_two_leaders_that_were_both_answered_the_one_that_saved_first_is_kept_by_both(
    scripted, scripted_provider, make_connection, start
):
    scripted.on("/token", Answer(body=rotated(1)), Answer(body=rotated(2)))
    connection = make_connection(age=EXPIRED)
    slow = start(connection, stops=[BEFORE_SAVE]).ready().go().until(BEFORE_SAVE)
    let_lease_run_out(connection)
    fast = start(connection).ready().go().result()

    assert fast == slow.go().result() == {"token": "access-2", "version": 1}
    assert (stored(connection).version, stored(connection).token.refresh_token) == (1, "refresh-2")


@pytest.mark.compliance("D33")
def test_a_stale_rows_invalid_grant_heals(scripted, scripted_provider, make_connection, start):
    """It was stopped just before its request, and spends what another has spent meanwhile."""
    scripted.on("/token", Answer(body=rotated()), REFUSED)
    connection = make_connection(age=EXPIRED)
    stale = start(connection, stops=[BEFORE_POST]).ready().go().until(BEFORE_POST)
    let_lease_run_out(connection)
    assert stored(connection).access_token() == "access-1"

    assert stale.go().result() == {"token": "access-1", "version": 1}
    kept = raw(connection).get()
    assert (kept.status, kept.version, kept.lease_owner, kept.failures) == (ACTIVE, 1, "", 0)
    assert len(scripted.asked("/token")) == 2


def test_a_late_save_leaves_the_lease_of_the_next_leader_alone(
    scripted, scripted_provider, make_connection, start
):
    scripted.on("/token", Answer(body=rotated(1)), REFUSED)
    connection = make_connection(age=EXPIRED)
    slow = start(connection, stops=[BEFORE_SAVE]).ready().go().until(BEFORE_SAVE)
    let_lease_run_out(connection)
    next_one = start(connection, stops=[BEFORE_POST]).ready().go().until(BEFORE_POST)
    theirs = raw(connection).get().lease_owner

    assert slow.go().result() == {"token": "access-1", "version": 1}
    assert raw(connection).get().lease_owner == theirs != ""
    # The next one spends what is spent by now, is refused, and takes over what the slow one saved.
    assert next_one.go().result() == {"token": "access-1", "version": 1}
    kept = raw(connection).get()
    assert (kept.status, kept.lease_owner, kept.failures) == (ACTIVE, "", 0)


def test_a_lost_answer_is_followed_by_one_probe_and_a_clear_end(
    scripted, scripted_provider, make_connection, start
):
    scripted.on("/token", Answer(body=rotated(), cut=9), REFUSED)
    connection = make_connection(age=EXPIRED)
    met = start(connection).ready().go().result()
    assert (met["error"], met["code"]) == ("ProviderUnavailable", "answer_lost")

    let_back_off_pass(connection)
    met = start(connection).ready().go().result()
    assert (met["error"], met["code"]) == ("ReauthorizationRequired", "rotation_lost")
    assert len(scripted.asked("/token")) == 2
