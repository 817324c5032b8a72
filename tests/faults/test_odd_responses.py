"""A refresh whose response has a new refresh token and no usable access token: the new one is not lost."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connections, transaction

from oauth_connect.errors import ProviderUnavailable
from oauth_connect.jobs.refresh import Due, refresh_due
from oauth_connect.models import ConnectionEvent
from oauth_connect.stores.row import RowStore
from tests.faults.processes import at_once, let_back_off_pass
from tests.servers.scripted import Answer
from tests.support.aging import prolong_back_off
from tests.support.follow_ups import wait_for_follow_ups
from tests.support.tokens import EXPIRED, FRESH, raw, stored

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted_provider")]

ODD: dict[str, dict[str, Any]] = {
    "an ID token instead of an access token": {"id_token": "a.b.c", "refresh_token": "refresh-1"},
    "an empty access token": {**FRESH, "access_token": ""},
    "an access token that cannot be sent": {**FRESH, "access_token": "a\nb"},
    "an access token that is no string": {**FRESH, "access_token": {"a": 1}},
    "an unknown token type": {**FRESH, "token_type": "mac"},
    "a warning as an error": {**FRESH, "error": "deprecated_scope"},
    "not ok, and yet tokens": {**FRESH, "ok": False},
    "an end that it names": {"error": "invalid_grant", "refresh_token": "refresh-1"},
}
every_odd_response = pytest.mark.parametrize("body", ODD.values(), ids=ODD)


@pytest.mark.compliance("D22")
@every_odd_response
def test_the_new_refresh_token_is_saved_and_sent_next(scripted, make_connection, body):
    scripted.on("/token", Answer(body=body), Answer(body={**FRESH, "refresh_token": "refresh-2"}))
    connection = make_connection(age=EXPIRED)
    with pytest.raises(ProviderUnavailable) as raised:
        connection.access_token()
    assert raised.value.code == "malformed_response"
    assert "scripted.token_request.refresh_params.scope" in str(raised.value)

    row = stored(connection)
    assert (row.token.refresh_token, row.token.access_token, row.token.carried) == (
        "refresh-1",
        "access-0",
        True,
    )
    assert (row.status, row.lease_owner, row.version) == ("active", "", 1)
    assert (row.failures, row.last_error, row.in_doubt) == (1, "malformed_response", False)
    assert ConnectionEvent.objects.filter(action="refresh_failed", error="malformed_response").count() == 1

    let_back_off_pass(connection)
    assert stored(connection).access_token() == "access-1"
    assert [request.form["refresh_token"] for request in scripted.asked("/token")] == [
        "refresh-0",
        "refresh-1",
    ]
    row = stored(connection)
    assert (row.token.refresh_token, row.token.carried, row.failures) == ("refresh-2", False, 0)


def test_an_access_token_that_is_still_valid_is_used_meanwhile(scripted, make_connection):
    scripted.on("/token", Answer(body=ODD["an empty access token"]))
    connection = make_connection(age=3590)
    assert connection.access_token() == "access-0"
    assert stored(connection).access_token() == "access-0"
    assert stored(connection).token.refresh_token == "refresh-1"
    assert len(scripted.asked("/token")) == 1, "the back-off holds"


def test_after_a_401_the_refused_token_is_not_taken_for_a_newer_one(scripted, make_connection):
    scripted.on("/token", Answer(body=ODD["an empty access token"]))
    scripted.on("/me", Answer(401))
    connection = make_connection(age=600)
    with pytest.raises(ProviderUnavailable):
        connection.session().get(f"{scripted.url}/me")
    prolong_back_off(connection)
    with pytest.raises(ProviderUnavailable):
        stored(connection).session().get(f"{scripted.url}/me")
    assert len(scripted.asked("/token")) == 1
    assert len(scripted.asked("/me")) == 2


@pytest.mark.compliance("D30")
def test_callers_of_several_processes_make_one_refresh(scripted, make_connection, start):
    """After ten failures the back-off takes minutes, so a caller that comes late still finds it."""
    scripted.on("/token", Answer(body=ODD["an ID token instead of an access token"]))
    connection = make_connection(age=EXPIRED)
    raw(connection).update(failures=10)
    let_back_off_pass(connection)
    workers = at_once([start(connection, connection) for _ in range(4)])
    results = [result["error"] for worker in workers for result in worker.results()]
    assert set(results) == {"ProviderUnavailable"}
    assert len(scripted.asked("/token")) == 1
    assert stored(connection).token.refresh_token == "refresh-1"


def test_one_that_is_saved_late_over_a_mark_gives_nobody_its_old_access_token(
    scripted, make_connection, monkeypatch
):
    """A worker slower than its lease saves between its successor's mark and its successor's last look."""
    scripted.on("/token", Answer(400, {"error": "invalid_grant"}))
    connection = make_connection(age=EXPIRED)
    mark = RowStore.mark

    def mark_and_be_overtaken(store: RowStore, seen: Any, owner: str, reason: str) -> bool:
        marked = mark(store, seen, owner, reason)
        late = seen.token.carrying("refresh-late", None)
        assert store.save(seen, "slow", late, None, failure="malformed_response")
        return marked

    monkeypatch.setattr(RowStore, "mark", mark_and_be_overtaken)
    with pytest.raises(ProviderUnavailable) as raised:
        connection.access_token()
    assert raised.value.code == "malformed_response"
    assert (stored(connection).status, stored(connection).token.refresh_token) == ("active", "refresh-late")


@every_odd_response
def test_a_bulk_run_saves_it_and_the_others_beside_it(scripted, make_connection, body):
    scripted.on("/token", Answer(body=body), Answer(body={**FRESH, "refresh_token": "refresh-2"}))
    first, second = make_connection(age=EXPIRED * 2), make_connection(age=EXPIRED)
    outcomes = sorted(result.outcome for result in refresh_due(Due(), workers=1))
    assert outcomes == ["refreshed", "unavailable"]
    assert (stored(first).token.refresh_token, stored(first).failures) == ("refresh-1", 1)
    assert (stored(second).token.refresh_token, stored(second).failures) == ("refresh-2", 0)


def test_inside_a_transaction_a_rollback_does_not_lose_it(scripted, make_connection):
    scripted.on("/token", Answer(body=ODD["an empty access token"]))
    connection = make_connection(age=EXPIRED)
    with pytest.raises(ProviderUnavailable), transaction.atomic():
        stored(connection).access_token()
    wait_for_follow_ups()
    row = stored(connection)
    assert (row.token.refresh_token, row.version, row.failures) == ("refresh-1", 1, 1)


def test_a_row_that_is_disconnected_meanwhile_has_the_new_token_revoked(scripted, make_connection):
    connection = make_connection(age=EXPIRED)

    def disconnect() -> None:
        stored(connection).disconnect()
        connections.close_all()  # those of the server's thread

    scripted.on("/revoke", Answer())
    scripted.on("/token", Answer(body=ODD["an empty access token"], until=disconnect))
    with pytest.raises(Exception, match="disconnected"):
        stored(connection).access_token()
    revoked = [request.form["token"] for request in scripted.asked("/revoke")]
    assert sorted(revoked) == ["refresh-0", "refresh-1"]


def test_the_same_refresh_token_again_is_a_failure_without_doubt(scripted, make_connection):
    scripted.on("/token", Answer(body={"refresh_token": "refresh-0", "token_type": "Bearer"}))
    connection = make_connection(age=EXPIRED)
    with pytest.raises(ProviderUnavailable):
        connection.access_token()
    row = raw(connection).get()
    assert (row.version, row.failures, row.in_doubt) == (0, 1, False)


@pytest.mark.parametrize(
    "body",
    [{"token_type": "Bearer"}, {"refresh_token": "new\x00token"}, {"refresh_token": ["new"]}, [], "text"],
)
def test_without_a_usable_refresh_token_the_old_one_is_in_doubt(scripted, make_connection, body):
    scripted.on("/token", Answer(body=body))
    connection = make_connection(age=EXPIRED)
    with pytest.raises(ProviderUnavailable):
        connection.access_token()
    row = stored(connection)
    assert (row.version, row.failures, row.in_doubt) == (0, 1, True)
    assert row.token.refresh_token == "refresh-0"


def test_an_error_with_the_same_refresh_token_is_that_error(scripted, make_connection):
    scripted.on("/token", Answer(200, {"error": "invalid_grant", "refresh_token": "refresh-0"}))
    connection = make_connection(age=EXPIRED)
    with pytest.raises(Exception, match="connected again"):
        connection.access_token()


def test_an_error_status_with_a_refresh_token_is_an_error(scripted, make_connection):
    scripted.on("/token", Answer(400, {"error": "invalid_grant", "refresh_token": "refresh-1"}))
    connection = make_connection(age=EXPIRED)
    with pytest.raises(Exception, match="connected again"):
        connection.access_token()
    assert stored(connection).status == "reauthorization_required"


@pytest.mark.parametrize("in_bulk", [False, True], ids=["alone", "in bulk"])
def test_a_token_at_the_top_is_saved_though_the_entry_has_a_path(
    scripted, scripted_entry, configure, make_connection, in_bulk
):
    connection = make_connection(age=EXPIRED)
    configure(PROVIDERS={"scripted": {**scripted_entry, "token_response": {"path": ["authed_user"]}}})
    scripted.on("/token", Answer(body=FRESH))
    if in_bulk:
        assert list(refresh_due(Due(pks=[connection.pk]), workers=1))
    else:
        connection.refresh()
    row = stored(connection)
    assert (row.token.refresh_token, row.token.access_token, row.failures) == ("refresh-1", "access-1", 0)
