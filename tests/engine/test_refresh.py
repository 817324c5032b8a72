"""Each failure of a refresh is told for what it is, and only a dead grant marks a connection."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db.models import QuerySet

from oauth_connect import signals
from oauth_connect.engine.timing import pause, refresh_time
from oauth_connect.errors import (
    CallError,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
    ReauthorizationRequired,
)
from oauth_connect.flows import session_for
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.run import refresh_due
from oauth_connect.models import Connection, ProviderState
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.token import Token
from oauth_connect.stores.row import RowStore
from tests.servers.scripted import Answer
from tests.support.tokens import EXPIRED, FRESH, raw, stored
from tests.support.waiting import Tally, tally_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted_provider")]

# Such a token does not meet that need, and works for many minutes more, however slow the machine is.
WITHIN_LEEWAY, LONG = 2800, 900


@pytest.fixture
def heard() -> Any:
    """The signals that were sent, in order, with their codes."""
    sent: list[tuple[str, str]] = []
    receivers = {}
    for name in ("refreshed", "refresh_failed", "reauthorization_required"):

        def receive(sender: Any, connection: Connection, code: str = "", name: str = name, **_: Any) -> None:
            sent.append((name, code))

        receivers[name] = receive
        getattr(signals, name).connect(receive)
    yield sent
    for name, receive in receivers.items():
        getattr(signals, name).disconnect(receive)


# --- success --------------------------------------------------------------------------------------


def test_a_refresh_keeps_everything_the_row_needs(scripted, make_connection, heard):
    scripted.on("/token", Answer(body={**FRESH, "refresh_token_expires_in": 86400}))
    connection = make_connection(age=EXPIRED)

    assert connection.access_token() == "access-1"

    row = stored(connection)
    assert row.token.refresh_token == "refresh-1"
    assert (row.version, row.status, row.failures, row.lease_owner) == (1, "active", 0, "")
    assert row.expires_at - row.last_refreshed_at < timedelta(hours=1)
    assert timedelta(seconds=60) <= row.expires_at - row.refresh_at <= timedelta(seconds=66)
    assert row.refresh_token_expires_at is not None
    assert heard == [("refreshed", "")]


@pytest.mark.compliance("A18", "D29")
@pytest.mark.parametrize("left_out", [{"refresh_token": ""}, {"refresh_token": None}])
def test_a_refresh_token_that_the_answer_leaves_out_is_the_old_one(scripted, make_connection, left_out):
    scripted.on("/token", Answer(body={**FRESH, **left_out}))
    connection = make_connection(age=EXPIRED)
    connection.access_token()
    assert stored(connection).token.refresh_token == "refresh-0"


@pytest.mark.compliance("B8")
@pytest.mark.parametrize(("age", "refreshes"), [(3600 - 65, 0), (3600 - 55, 1)])
def test_a_token_is_refreshed_from_its_leeway_on(scripted, make_connection, age, refreshes):
    scripted.on("/token", Answer(body=FRESH))
    make_connection(age=age).session().token_auth.source.current()
    assert len(scripted.asked("/token")) == refreshes


def test_a_token_that_lives_shorter_than_the_leeway_is_used_for_three_quarters_of_its_life(
    scripted, make_connection
):
    scripted.on("/token", Answer(body=FRESH))
    short = {**FRESH, "access_token": "short", "expires_in": 800}
    assert make_connection(response=short, age=500).access_token(LONG) == "short"
    assert make_connection(response=short, age=650).access_token(LONG) == "access-1"


def test_the_scope_stays_what_was_granted(scripted, make_connection):
    scripted.on("/token", Answer(body={**FRESH, "scope": "read"}))
    connection = make_connection(age=EXPIRED, response={**FRESH, "scope": "read write"})
    assert connection.has_scopes("read", "write")
    connection.access_token()
    assert "scope" not in scripted.asked("/token")[0].form
    assert stored(connection).scopes == ["read"]
    assert not stored(connection).has_scopes("write")


@pytest.mark.parametrize(
    ("lives", "unused", "at", "reserve"),
    [
        (3600, 30 * 86400, 3540, 60),  # the access token ends first, long before
        (300, 1800, 240, 60),
        (3600, 3600, 1800, 1800),  # both end together: half of the time is left for a job that runs seldom
        (3600, 5400, 2700, 2700),
        (30 * 86400, 86400, 43200, 43200),  # the refresh token ends first
        (None, 90 * 86400, 87 * 86400, 3 * 86400),  # three days at most
    ],
)
def test_a_token_is_due_before_its_refresh_token_dies_unused(lives, unused, at, reserve):
    now = datetime.now(UTC)
    token = Token(
        access_token="a",
        refresh_token="r",
        obtained_at=now,
        expires_at=now + timedelta(seconds=lives) if lives else None,
        refresh_token_expires_at=now + timedelta(seconds=unused),
    )
    due = refresh_time(token, timedelta(seconds=60))
    assert now + timedelta(seconds=at - reserve / 10) <= due <= now + timedelta(seconds=at)


# --- transient ------------------------------------------------------------------------------------

TRANSIENT = {
    "503": (Answer(503), "http_503", False),
    "500 in HTML": (Answer(500, b"<html>"), "http_500", False),
    "429": (Answer(429), "http_429", False),
    "dropped": (Answer(body=FRESH, cut=-1), "answer_lost", True),
    "cut": (Answer(body=FRESH, cut=9), "answer_lost", True),
    "unreadable": (Answer(body=b"<html>"), "malformed_response", True),
    "no access token": (Answer(body={}), "malformed_response", True),
}


@pytest.mark.compliance("D32")
@pytest.mark.parametrize(("answer", "code", "in_doubt"), TRANSIENT.values(), ids=TRANSIENT)
def test_a_failing_provider_marks_no_connection_and_releases_the_lease(
    scripted, make_connection, heard, answer, code, in_doubt
):
    scripted.on("/token", answer)
    connection = make_connection(age=EXPIRED)

    with pytest.raises(ProviderUnavailable) as caught:
        connection.session().get("me")

    assert caught.value.code == code
    row = stored(connection)
    assert (row.status, row.lease_owner, row.failures, row.version) == ("active", "", 1, 0)
    assert (row.last_error, row.in_doubt) == (code, in_doubt)
    assert row.token.refresh_token == "refresh-0"
    assert heard == [("refresh_failed", code)]


@pytest.mark.parametrize(
    ("answer", "in_doubt", "inside"),
    [
        (Answer(body=b"<html>"), False, True),
        (Answer(503, headers={"Retry-After": "3000"}), True, True),
        (Answer(503, headers={"Retry-After": "3000"}), False, False),
    ],
)
def test_after_a_lost_answer_the_next_try_falls_into_the_grace_window(
    answer, in_doubt, inside, scripted, scripted_entry, configure, make_connection
):
    configure(PROVIDERS={"scripted": {**scripted_entry, "refresh": {"grace_seconds": 600}}})
    connection = make_connection(age=EXPIRED)
    rows = QuerySet(Connection).filter(pk=connection.pk)
    rows.update(in_doubt=in_doubt, failures=12)
    scripted.on("/token", answer)

    with pytest.raises(ProviderUnavailable):
        Connection.objects.get().refresh()

    left = (stored(connection).refresh_at - datetime.now(UTC)).total_seconds()
    assert (left <= 150) is inside


def test_a_provider_that_cannot_be_reached_was_sent_nothing(scripted_entry, configure, make_connection):
    configure(PROVIDERS={"scripted": {**scripted_entry, "token_endpoint": "http://127.0.0.1:9/token"}})
    connection = make_connection(age=EXPIRED)
    with pytest.raises(ProviderUnavailable, match="Nothing was sent"):
        connection.access_token()
    assert not stored(connection).in_doubt


@pytest.mark.compliance("B8")
def test_within_the_leeway_a_failed_refresh_does_not_fail_the_call(scripted, make_connection):
    scripted.on("/token", Answer(503))
    connection = make_connection(age=WITHIN_LEEWAY)
    assert connection.access_token(LONG) == "access-0"
    assert len(scripted.asked("/token")) == 1


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("not_yet.approved", "not_yet.approved"), ("eyJhbGciOiJIUzI1NiJ9.e30.x9", "other_error")],
)
def test_a_code_that_may_be_a_token_is_not_kept(scripted, make_connection, heard, sent, kept):
    scripted.on("/token", Answer(400, {"error": sent}))
    connection = make_connection(age=EXPIRED)
    with pytest.raises(ProviderRejected):
        connection.access_token()
    assert stored(connection).last_error == kept


def test_no_request_is_made_before_the_back_off_has_passed_unless_forced(scripted, make_connection):
    scripted.on("/token", Answer(503, headers={"Retry-After": "60"}), Answer(body=FRESH))
    connection = make_connection(age=EXPIRED)
    for _ in range(3):
        with pytest.raises(ProviderUnavailable) as caught:
            stored(connection).access_token()
    assert 50 < caught.value.retry_after <= 60
    assert len(scripted.asked("/token")) == 1

    connection.refresh()
    assert stored(connection).failures == 0
    assert connection.access_token() == "access-1"


@pytest.mark.compliance("D32")
@pytest.mark.parametrize(("asked", "at_most"), [("30", 30), ("999999999", 3600), ("-5", 2), ("soon", 2)])
def test_retry_after_is_honoured_within_reason(scripted, make_connection, asked, at_most):
    scripted.on("/token", Answer(503, headers={"Retry-After": asked}))
    connection = make_connection(age=EXPIRED)
    before = datetime.now(UTC)
    with pytest.raises(ProviderUnavailable):
        connection.access_token()
    after = datetime.now(UTC)
    at_least = before + timedelta(seconds=at_most / 2)
    assert at_least <= stored(connection).refresh_at <= after + timedelta(seconds=at_most)


def test_the_back_off_grows_and_is_capped():
    assert all(1 <= pause(1, None) <= 2 for _ in range(50))
    assert all(16 <= pause(5, None) <= 32 for _ in range(50))
    assert all(pause(failures, None) <= 900 for failures in (10, 100, 10_000))


# --- dead, or told otherwise ----------------------------------------------------------------------


@pytest.mark.compliance("D33", "A19")
def test_invalid_grant_marks_the_connection_once_and_nothing_is_asked_again(scripted, make_connection, heard):
    scripted.on("/token", Answer(400, {"error": "invalid_grant"}))
    connection = make_connection(age=EXPIRED)
    for _ in range(3):
        with pytest.raises(ReauthorizationRequired) as caught:
            stored(connection).session().get("me")
    assert caught.value.reason == "revoked"
    assert str(connection.pk) in caught.value.connect_url
    assert caught.value.connection == connection
    assert stored(connection).status == "reauthorization_required"
    assert stored(connection).refresh_at is None
    assert len(scripted.asked("/token")) == 1
    assert heard == [("reauthorization_required", "revoked")]


def test_over_an_unfinished_lease_invalid_grant_says_that_the_rotation_may_be_lost(scripted, make_connection):
    """Another worker died between its request and its save."""
    scripted.on("/token", Answer(400, {"error": "invalid_grant"}))
    connection = make_connection(age=EXPIRED)
    Connection._base_manager.filter(pk=connection.pk).update(lease_owner="crashed", lease_until=1)
    with pytest.raises(ReauthorizationRequired) as caught:
        connection.access_token()
    assert caught.value.reason == "rotation_lost"


def test_a_token_without_a_refresh_token_runs_out_without_a_request(scripted, make_connection):
    connection = make_connection(age=EXPIRED, response={**FRESH, "refresh_token": ""})
    with pytest.raises(ReauthorizationRequired) as caught:
        connection.access_token()
    assert caught.value.reason == "expired"
    assert stored(connection).status == "reauthorization_required"
    assert not scripted.requests


@pytest.mark.parametrize(
    ("refresh", "named"),
    [
        ({"style": "none"}, "scripted.refresh.style"),
        ({"expected": "never"}, "scripted.refresh.expected"),
        ({}, "scripted.authorize.offline_scopes"),
    ],
)
def test_what_cannot_be_refreshed_names_the_setting_that_decides(
    scripted, scripted_entry, configure, make_connection, refresh, named
):
    configure(PROVIDERS={"scripted": {**scripted_entry, "refresh": refresh}})
    answer = {**FRESH, "refresh_token": ""}
    for connection in (make_connection(response=answer), make_connection(age=EXPIRED, response=answer)):
        with pytest.raises(ReauthorizationRequired, match=re.escape(named)):
            connection.refresh()
    assert not scripted.requests


def test_a_valid_token_without_a_refresh_token_cannot_be_renewed_and_is_not_marked(scripted, make_connection):
    connection = make_connection(response={**FRESH, "refresh_token": ""})
    with pytest.raises(ReauthorizationRequired) as caught:
        connection.refresh()
    assert caught.value.reason == "no_refresh_token"
    assert stored(connection).status == "active"
    assert connection.access_token() == "access-1"
    assert not scripted.requests


@pytest.mark.parametrize("status", [404, 405])
def test_a_wrong_endpoint_is_reported_whatever_the_response_says(scripted, make_connection, status):
    """Also to who comes within the back-off, and knows no more than the stored code."""
    scripted.on("/token", Answer(status, {"error": "not_found"}), Answer(body=FRESH))
    connection = make_connection(age=EXPIRED)
    for _ in range(2):
        with pytest.raises(ProviderMisconfigured) as caught:
            stored(connection).access_token()
        assert caught.value.code == f"http_{status}"
    assert ProviderState.objects.get().alarm == f"http_{status}"
    connection.refresh()
    assert ProviderState.objects.get().alarm == ""
    assert len(scripted.requests) == 2


def test_an_error_that_is_repeated_within_the_back_off_says_when_corrected_settings_are_tried(
    scripted, make_connection
):
    scripted.on("/token", Answer(401, {"error": "invalid_client"}))
    connection = make_connection(age=EXPIRED)
    said = []
    for _ in range(2):
        with pytest.raises(ProviderMisconfigured) as caught:
            stored(connection).access_token()
        said.append(str(caught.value))
    assert said[1].startswith(f"{said[0]} An earlier request found this.")
    assert 0 < int(re.search(r"in (\d+) seconds", said[1])[1]) <= 60
    assert len(scripted.requests) == 1


def test_a_lost_answer_is_asked_after_soon_however_often_it_failed_before(scripted, make_connection):
    scripted.on("/token", Answer(503), Answer(503), Answer(503), Answer(503), Answer(503), Answer(reset=True))
    connection = make_connection(age=EXPIRED)
    for _ in range(6):
        with pytest.raises(ProviderUnavailable):
            connection.refresh()
    row = stored(connection)
    assert (row.in_doubt, row.failures) == (True, 6)
    assert row.refresh_at - datetime.now(UTC) < timedelta(seconds=2.1)


def test_another_refusal_has_its_code_and_marks_no_connection(scripted, make_connection):
    scripted.on("/token", Answer(400, {"error": "invalid_scope", "error_description": "<b>no\x00</b>"}))
    connection = make_connection(age=EXPIRED)
    with pytest.raises(ProviderRejected) as caught:
        connection.access_token()
    assert (caught.value.error, caught.value.description) == ("invalid_scope", "<b>no</b>")
    assert stored(connection).status == "active"


# --- refused without a reason ---------------------------------------------------------------------

UNEXPLAINED = Answer(400)
A_DAY = timedelta(hours=24)


def refused_since(connection: Connection, age: timedelta) -> None:
    """Let the first refusal of a connection be older."""
    raw(connection).update(error_since=datetime.now(UTC) - age)


def refreshed_meanwhile(make_connection: Any, **columns: Any) -> None:
    """Store another connection of the same client, whose last refresh was now."""
    values = {"last_refreshed_at": datetime.now(UTC), **columns}
    raw(make_connection()).update(**values)


def alone(connection: Connection) -> None:
    with contextlib.suppress(CallError):
        stored(connection).refresh()


def in_bulk(connection: Connection) -> None:
    raw(connection).update(refresh_at=datetime.now(UTC) - timedelta(minutes=1))
    assert list(refresh_due(Due(pks=[connection.pk]), workers=2))


def awaited(connection: Connection) -> None:
    with contextlib.suppress(CallError):
        async_to_sync(stored(connection).arefresh)()


every_way = pytest.mark.parametrize("refresh", [alone, in_bulk, awaited])


@every_way
def test_a_day_of_refusals_without_a_reason_ends_the_grant_if_others_are_refreshed(
    scripted, make_connection, heard, refresh
):
    scripted.on("/token", UNEXPLAINED)
    connection = make_connection(age=EXPIRED)
    refresh(connection)
    assert (stored(connection).status, stored(connection).last_error) == ("active", "refused_without_reason")
    refused_since(connection, A_DAY)
    refreshed_meanwhile(make_connection)

    refresh(connection)

    row = stored(connection)
    assert (row.status, row.last_error) == ("reauthorization_required", "refused_without_reason")
    assert heard[-1] == ("reauthorization_required", "refused_without_reason")
    with pytest.raises(ReauthorizationRequired) as raised:
        row.access_token()
    assert raised.value.reason == "refused_without_reason"
    assert len(scripted.asked("/token")) == 2


@pytest.mark.parametrize(
    "otherwise",
    [
        pytest.param({"since": A_DAY - timedelta(minutes=1)}, id="less than a day"),
        pytest.param({"before": "http_503"}, id="another failure until now"),
        pytest.param({"other": {"last_refreshed_at": datetime.now(UTC) - timedelta(days=3)}}, id="not since"),
        pytest.param({"other": {"last_refreshed_at": None}}, id="only connected"),
        pytest.param({"other": {"client_id": "another"}}, id="of another client"),
        pytest.param({"other": {"provider": "another"}}, id="of another provider"),
        pytest.param({"other": {"failures": 1}}, id="it fails now"),
        pytest.param({"other": {"grant": "client_credentials"}}, id="a client's own"),
        pytest.param({"age": 100}, id="the access token is valid"),
        pytest.param({"response": {**FRESH, "expires_in": None}}, id="of unknown expiry"),
    ],
)
def test_refusals_without_a_reason_alone_end_nothing(scripted, make_connection, otherwise):
    scripted.on("/token", UNEXPLAINED)
    connection = make_connection(age=otherwise.get("age", EXPIRED), response=otherwise.get("response"))
    alone(connection)
    refused_since(connection, otherwise.get("since", A_DAY))
    raw(connection).update(last_error=otherwise.get("before", "refused_without_reason"))
    refreshed_meanwhile(make_connection, **otherwise.get("other", {}))

    alone(connection)

    assert (stored(connection).status, stored(connection).failures) == ("active", 2)


@every_way
def test_since_when_an_error_is_the_same_is_kept(scripted, make_connection, refresh):
    scripted.on("/token", UNEXPLAINED, UNEXPLAINED, Answer(503), Answer(503), UNEXPLAINED, Answer(body=FRESH))
    connection = make_connection(age=EXPIRED)
    assert stored(connection).error_since is None
    moments = []
    for _ in range(5):
        refresh(connection)
        moments.append(stored(connection).error_since)
    assert moments[0] == moments[1] < moments[2] == moments[3] < moments[4]
    refresh(connection)
    assert (stored(connection).error_since, stored(connection).last_error) == (None, "")


def test_since_when_odd_responses_come_is_kept_too(scripted, make_connection):
    odd = {"token_type": "Bearer"}
    scripted.on("/token", *(Answer(body={**odd, "refresh_token": f"refresh-{n}"}) for n in (1, 2)))
    connection = make_connection(age=EXPIRED)
    alone(connection)
    first = stored(connection).error_since
    alone(connection)
    row = stored(connection)
    assert (row.token.refresh_token, row.last_error, row.failures) == ("refresh-2", "malformed_response", 2)
    assert row.error_since == first is not None


def test_a_refusal_without_a_reason_is_a_refusal_for_callers_that_come_later(scripted, make_connection):
    scripted.on("/token", UNEXPLAINED)
    connection = make_connection(age=EXPIRED)
    for _ in range(2):
        with pytest.raises(ProviderRejected, match=r"token_response\.error_field") as raised:
            stored(connection).access_token()
        assert raised.value.error == "refused_without_reason"
    assert len(scripted.asked("/token")) == 1


# --- other refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize("refresh", [alone, in_bulk, awaited])
@pytest.mark.parametrize("status", [404, 500, 503])
def test_a_code_that_ends_the_grant_ends_it_with_any_status(scripted, make_connection, status, refresh):
    scripted.on("/token", Answer(status, {"error": "invalid_token"}))
    connection = make_connection(age=EXPIRED)
    refresh(connection)
    assert (stored(connection).status, stored(connection).last_error) == (
        "reauthorization_required",
        "revoked",
    )


def test_an_entry_may_end_a_grant_by_a_code_that_refuses_the_client_elsewhere(
    scripted, scripted_entry, configure, make_connection
):
    configure(
        PROVIDERS={"scripted": {**scripted_entry, "refresh": {"ended_errors": ["unauthorized_client"]}}}
    )
    scripted.on("/token", Answer(400, {"error": "unauthorized_client"}))
    connection = make_connection(age=EXPIRED)
    alone(connection)
    assert stored(connection).status == "reauthorization_required"
    assert not ProviderState.objects.exists()


def test_a_401_without_a_code_raises_no_alarm_and_marks_nothing(scripted, make_connection):
    scripted.on("/token", Answer(401, {"status": 401, "message": "Invalid refresh token"}))
    connection = make_connection(age=EXPIRED)
    with pytest.raises(ProviderRejected) as raised:
        connection.access_token()
    assert raised.value.error == "http_401"
    assert (stored(connection).status, stored(connection).last_error) == ("active", "http_401")
    assert not ProviderState.objects.exists()


def test_a_token_of_another_client_id_is_not_sent(scripted, scripted_entry, configure, make_connection):
    connection = make_connection(age=EXPIRED)
    configure(PROVIDERS={"scripted": {**scripted_entry, "client_id": "another app"}})
    with pytest.raises(ReauthorizationRequired) as caught:
        connection.access_token()
    assert caught.value.reason == "client_changed"
    assert not scripted.requests
    assert (stored(connection).status, stored(connection).lease_owner) == ("active", "")


@pytest.mark.compliance("D61")
def test_a_disabled_provider_gets_no_call_and_no_token_request(
    scripted, scripted_entry, configure, make_connection
):
    connection = make_connection(age=EXPIRED)
    configure(PROVIDERS={"scripted": {**scripted_entry, "enabled": False}})
    for use in (connection.session, connection.refresh, connection.access_token):
        with pytest.raises(ProviderMisconfigured, match="disabled"):
            use()
    assert not scripted.requests
    assert stored(connection).token.refresh_token == "refresh-0"


@pytest.mark.compliance("D13")
def test_a_deactivated_users_token_is_not_refreshed_nor_marked(scripted, make_connection, user):
    connection = make_connection(age=EXPIRED)
    user.is_active = False
    user.save()
    with pytest.raises(ReauthorizationRequired) as caught:
        stored(connection).access_token()
    assert caught.value.reason == "owner_inactive"
    with pytest.raises(ReauthorizationRequired, match="deactivated"):
        session_for(user, "scripted")
    assert not scripted.requests
    assert stored(connection).status == "active"


def test_those_who_waited_for_a_leader_get_what_it_got(scripted, make_connection, calls_at_once, monkeypatch):
    """A sick provider gets one attempt, not one from each caller; it fails once all the others wait."""
    looks = tally_of(monkeypatch, RowStore, "peek")
    # All of them look within the back-off, also on a busy machine.
    long = {"Retry-After": "600"}
    scripted.on("/token", Answer(503, headers=long, until=lambda: looks.wait_for(7)))
    connection = make_connection(age=EXPIRED)

    results = calls_at_once(8, lambda: stored(connection).access_token())

    assert [type(result) for result in results] == [ProviderUnavailable] * 8
    assert len(scripted.asked("/token")) == 1


def test_while_the_token_is_valid_no_caller_waits_for_the_refresh(scripted, make_connection, calls_at_once):
    """The provider answers the one who refreshes once all the others have their token."""
    served = Tally("a caller was served")
    scripted.on("/token", Answer(body=FRESH, until=lambda: served.wait_for(7)))
    connection = make_connection(age=WITHIN_LEEWAY)

    def call() -> str:
        token: str = stored(connection).access_token(LONG)
        served.add()
        return token

    results = calls_at_once(8, call)

    assert sorted(results) == ["access-0"] * 7 + ["access-1"]
    assert len(scripted.asked("/token")) == 1


def test_a_session_shared_by_threads_refreshes_once(scripted, make_connection, calls_at_once, monkeypatch):
    looks = tally_of(monkeypatch, RowStore, "peek")
    scripted.on("/token", Answer(body=FRESH, until=lambda: looks.wait_for(7)))
    scripted.on("/api/me", Answer(body={}))
    http = make_connection(age=EXPIRED).session()

    results = calls_at_once(8, lambda: http.get("me").request.headers["Authorization"])

    assert results == ["Bearer access-1"] * 8
    assert len(scripted.asked("/token")) == 1


# --- pure -----------------------------------------------------------------------------------------


def token(**changes: Any) -> Token:
    now = datetime.now(UTC)
    values = {"obtained_at": now, "expires_at": now + timedelta(hours=1), "refresh_token": "r", **changes}
    return Token(access_token="a", **values)


def test_nothing_is_due_without_an_expiry_or_a_refresh_token():
    assert refresh_time(token(expires_at=None), timedelta(seconds=60)) is None
    assert refresh_time(token(refresh_token=""), timedelta(seconds=60)) is None


def test_a_token_that_a_slow_endpoint_left_little_of_is_not_refreshed_by_each_call(
    scripted, make_connection, configure, monkeypatch
):
    """Of 3,000 seconds the response takes 2,500. A quarter of the lifetime is more than what is left."""
    configure(REFRESH_LEEWAY=3600)
    now = datetime.now(UTC)
    times = chain([now - timedelta(seconds=2500)], repeat(now))
    defaults = {**(AuthorizationServer.__init__.__kwdefaults__ or {}), "now": lambda: next(times)}
    monkeypatch.setattr(AuthorizationServer.__init__, "__kwdefaults__", defaults)
    scripted.on("/token", Answer(body={**FRESH, "expires_in": 3000}))
    connection = make_connection(age=EXPIRED)
    connection.refresh()
    http = stored(connection).session()
    for _ in range(3):
        http.get(f"{scripted.url}/api/me")
    assert len(scripted.asked("/token")) == 1
