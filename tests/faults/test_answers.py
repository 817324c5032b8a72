"""What a provider may answer a refresh with, and what each answer leaves behind, on every database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from oauth_connect.errors import ProviderMisconfigured, ProviderUnavailable
from oauth_connect.models import Connection, ProviderState
from tests.faults.processes import at_once, let_back_off_pass
from tests.servers.scripted import Answer
from tests.support.aging import prolong_back_off
from tests.support.tokens import EXPIRED, FRESH, raw, stored

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted_provider")]

PATIENT = 50  # seconds for an answer that comes at once
INVALID_CLIENT = Answer(401, {"error": "invalid_client"})


def retry_after(said: str) -> dict[str, str]:
    return {"Retry-After": said}


def in_seconds(seconds: int) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


# Answer, error code, may the token be spent, seconds until the next try: at least, at most.
NOT_NOW: dict[str, tuple[Answer, str, bool, float, float]] = {
    "429, seconds": (Answer(429, headers=retry_after("120")), "http_429", False, 60, 120),
    "503, date": (Answer(503, headers=retry_after(in_seconds(3000))), "http_503", False, 600, 3000),
    "503, a date long past": (
        Answer(503, headers=retry_after("Mon, 01 Jan 1990 00:00:00 GMT")),
        "http_503",
        False,
        0,
        2,
    ),
    "429, a date in a century": (
        Answer(429, headers=retry_after("Fri, 01 Jan 2128 00:00:00 GMT")),
        "http_429",
        False,
        3000,
        3600,
    ),
    "503, absurd": (Answer(503, headers=retry_after("9" * 400)), "http_503", False, 0, 3600),
    "503, nonsense": (Answer(503, headers=retry_after("tomorrow; DROP TABLE")), "http_503", False, 0, 2),
    "500": (Answer(500), "http_500", False, 0, 2),
    "500 in HTML": (Answer(500, b"<html>oh no", {"Content-Type": "text/html"}), "http_500", False, 0, 2),
    "200 in HTML": (Answer(200, b"<html>", {"Content-Type": "text/html"}), "malformed_response", True, 0, 2),
    "a hang": (Answer(silent=True), "timeout", True, 0, 2),
    "a hang within the body": (Answer(body=FRESH, drip=0.2), "timeout", True, 0, 2),
    "a reset": (Answer(reset=True), "answer_lost", True, 0, 2),
    "dropped without a word": (Answer(cut=-1), "answer_lost", True, 0, 2),
    "dropped in mid-body": (Answer(body=FRESH, cut=20), "answer_lost", True, 0, 2),
}


@pytest.mark.compliance("D32", "D24", "D22")
@pytest.mark.parametrize(
    ("answer", "code", "in_doubt", "at_least", "at_most"), NOT_NOW.values(), ids=NOT_NOW.keys()
)
def test_a_temporary_failure_releases_the_lease_marks_no_connection_and_is_retried_in_time(
    scripted, make_connection, configure, answer, code, in_doubt, at_least, at_most
):
    configure(HTTP_TIMEOUT=1 if code == "timeout" else PATIENT)
    scripted.on("/token", answer)
    connection = make_connection(age=EXPIRED)

    before = datetime.now(UTC)
    with pytest.raises(ProviderUnavailable) as caught:
        connection.access_token()
    after = datetime.now(UTC)
    row = raw(connection).get()
    prolong_back_off(connection)
    with pytest.raises(ProviderUnavailable):
        stored(connection).access_token()  # inside the back-off: no further request

    assert caught.value.code == code
    assert (row.status, row.lease_owner, row.failures, row.version) == ("active", "", 1, 0)
    assert (row.last_error, row.in_doubt) == (code, in_doubt)
    assert row.token.refresh_token == "refresh-0"
    assert before + timedelta(seconds=at_least) <= row.refresh_at <= after + timedelta(seconds=at_most)
    assert len(scripted.asked("/token")) == 1

    configure(HTTP_TIMEOUT=PATIENT)
    scripted.on("/token", Answer(body=FRESH))
    let_back_off_pass(connection)
    assert stored(connection).access_token() == "access-1"
    assert (stored(connection).failures, stored(connection).in_doubt) == (0, False)


@pytest.mark.parametrize(
    ("endpoint", "cause"),
    [
        ("https://nowhere.invalid/token", "host_not_found"),
        ("http://127.0.0.1:9/token", "connection_refused"),
    ],
)
def test_what_never_left_this_machine_leaves_no_doubt(
    endpoint, cause, scripted_entry, configure, make_connection
):
    configure(PROVIDERS={"scripted": {**scripted_entry, "token_endpoint": endpoint}})
    connection = make_connection(age=EXPIRED)
    with pytest.raises(ProviderUnavailable, match="Nothing was sent") as caught:
        connection.access_token()
    assert caught.value.code == cause
    row = raw(connection).get()
    assert (row.status, row.lease_owner, row.failures, row.in_doubt) == ("active", "", 1, False)


# --- wrong settings -------------------------------------------------------------------------------


@pytest.mark.compliance("D34")
def test_invalid_client_raises_one_alarm_over_processes_and_marks_no_user(scripted, make_connection, start):
    """All four requests are under way before the first is answered."""
    refused = Answer(401, {"error": "invalid_client"}, until=lambda: scripted.wait_for("/token", 4))
    scripted.on("/token", refused)
    connections = [make_connection(age=EXPIRED) for _ in range(4)]

    workers = at_once([start(*connections[:2]), start(*connections[2:])])
    met = [result for worker in workers for result in worker.results()]

    assert {(result["error"], result["code"]) for result in met} == {
        ("ProviderMisconfigured", "invalid_client")
    }
    assert {row.status for row in Connection.objects.all()} == {"active"}
    assert {row.in_doubt for row in Connection.objects.all()} == {False}
    assert ProviderState.objects.get().alarm == "invalid_client"
    logged = [action for worker in workers for action in worker.logged]
    assert logged.count("provider_misconfigured") == 1


@pytest.mark.compliance("D34")
def test_once_the_settings_are_right_again_everything_heals_by_itself(scripted, make_connection):
    scripted.on("/token", INVALID_CLIENT)
    connections = [make_connection(age=EXPIRED) for _ in range(3)]
    for connection in connections:
        with pytest.raises(ProviderMisconfigured):
            connection.access_token()

    scripted.on("/token", Answer(body=FRESH))  # somebody has put the right secret back
    for connection in connections:
        let_back_off_pass(connection)
        assert stored(connection).access_token() == "access-1"
        assert ProviderState.objects.get().alarm == ""
    assert {row.failures for row in Connection.objects.all()} == {0}
