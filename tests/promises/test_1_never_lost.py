"""Promise 1: a rotated refresh token is never lost by us."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection as database
from django.db import transaction
from django.http import HttpResponse
from django.urls import path

from oauth_connect.engine.single_flight import single_flight
from oauth_connect.engine.store import ACTIVE
from oauth_connect.flows import session_for
from oauth_connect.models import Connection
from oauth_connect.models.querysets import ProtocolColumnsError
from oauth_connect.protocol.client import AuthorizationServer
from tests.servers.scripted import Answer
from tests.support.follow_ups import wait_for_follow_ups
from tests.support.threads import in_another_thread
from tests.support.tokens import FRESH, raw, stored

pytestmark = pytest.mark.django_db(transaction=True)

LOST_ANSWERS = {
    "dropped": Answer(body=FRESH, cut=-1),
    "cut": Answer(body=FRESH, cut=20),
    "not a token response": Answer(body=b"<html>"),
}
PROTOCOL_COLUMNS = ["sealed_token", "version", "lease_owner", "status", "expires_at", "failures"]


def refresh_and_raise(request: Any) -> HttpResponse:
    session_for(request.user, "codeyard").get("user").raise_for_status()
    raise ValueError("a fault of the site, after the call")


urlpatterns = [path("refresh-and-raise/", refresh_and_raise)]


# --- not to a rolled-back request -----------------------------------------------------------------


def test_a_view_under_atomic_requests_that_refreshes_and_raises_keeps_the_rotated_token(
    codeyard, make_connection, client, user, settings, monkeypatch
):
    settings.ROOT_URLCONF = __name__
    monkeypatch.setitem(database.settings_dict, "ATOMIC_REQUESTS", True)
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())
    client.force_login(user)
    client.raise_request_exception = False

    assert client.get("/refresh-and-raise/").status_code == 500

    wait_for_follow_ups()
    monkeypatch.undo()
    assert stored(connection).version == 1
    # The provider agrees: the stored refresh token is the living one, and nothing was spent twice.
    stored(connection).refresh()
    assert codeyard.stats["rotations"] == 2
    assert codeyard.stats["reuse_seen"] == 0


def test_a_rolled_back_transaction_around_writes_of_its_own_keeps_the_rotated_token(
    codeyard, make_connection, user
):
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())

    def work() -> None:
        user.email = "changed@example.org"
        user.save()
        assert connection.session().get("user").status_code == 200
        raise RuntimeError

    with pytest.raises(RuntimeError), transaction.atomic():
        work()

    wait_for_follow_ups()
    assert stored(connection).version == 1
    assert stored(connection).token == connection.token
    user.refresh_from_db()
    assert user.email == ""


def test_inside_a_transaction_the_instance_has_the_new_token_immediately(codeyard, make_connection):
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())
    with transaction.atomic():
        assert connection.session().get("user").status_code == 200
        assert connection.version == 1
        assert connection.session().get("user").status_code == 200
    wait_for_follow_ups()
    assert codeyard.refreshes == 1


def test_a_connection_that_the_transaction_itself_made_shares_its_fate(
    scripted, scripted_provider, make_connection
):
    scripted.on("/token", Answer(body=FRESH))

    def work() -> None:
        assert make_connection(age=7200).access_token() == "access-1"
        raise RuntimeError

    with pytest.raises(RuntimeError), transaction.atomic():
        work()
    wait_for_follow_ups()
    assert not Connection.objects.exists()


# --- not to a stale instance ----------------------------------------------------------------------


def test_a_stale_instance_saved_for_its_label_does_not_put_the_spent_token_back(codeyard, make_connection):
    stale = make_connection("codeyard", age=3600, response=codeyard.grant())
    Connection.objects.get(pk=stale.pk).refresh()

    stale.account_label = "renamed"
    stale.save()

    assert stored(stale).account_label == "renamed"
    assert stored(stale).version == 1
    stored(stale).refresh()
    assert codeyard.stats["reuse_seen"] == 0


def test_a_stale_instance_of_a_deleted_row_does_not_bring_it_back(scripted_provider, make_connection):
    stale = make_connection()
    Connection.objects.all().delete()
    with pytest.raises(Exception, match="did not affect any rows"):
        stale.save()
    assert not Connection.objects.exists()


@pytest.mark.parametrize("column", PROTOCOL_COLUMNS)
def test_update_and_bulk_update_refuse_the_protocols_columns(scripted_provider, make_connection, column):
    connection = make_connection()
    with pytest.raises(ProtocolColumnsError, match=column):
        Connection.objects.update(**{column: None})
    with pytest.raises(ProtocolColumnsError, match=column):
        Connection.objects.bulk_update([connection], [column])


def test_a_stale_worker_takes_over_what_another_has_refreshed(codeyard, make_connection):
    stale = make_connection("codeyard", age=3600, response=codeyard.grant())
    Connection.objects.get(pk=stale.pk).refresh()

    assert stale.session().get("user").status_code == 200
    assert stale.version == 1
    assert codeyard.refreshes == 1


# --- not to a second worker -----------------------------------------------------------------------


def test_a_stale_workers_invalid_grant_loses_nothing(scripted, scripted_provider, make_connection, meanwhile):
    """A leader slower than its lease: the other one's token is kept, and nothing is marked."""
    slow = make_connection(age=7200)
    scripted.on("/token", Answer(body=FRESH), Answer(400, {"error": "invalid_grant"}))

    def overtake() -> None:
        let_lease_run_out(slow)
        Connection.objects.get(pk=slow.pk).refresh()

    meanwhile(overtake)

    assert slow.access_token() == "access-1"
    assert stored(slow).status == ACTIVE
    assert stored(slow).version == 1
    assert len(scripted.asked("/token")) == 2


def test_a_late_answer_is_saved_though_another_holds_the_lease_by_then(
    scripted, scripted_provider, make_connection, meanwhile
):
    slow = make_connection(age=7200)
    scripted.on("/token", Answer(body=FRESH))

    def claim_by_another() -> None:
        rows = raw(slow)
        rows.update(lease_owner="another")

    meanwhile(claim_by_another)

    assert slow.access_token() == "access-1"
    assert stored(slow).version == 1
    assert raw(slow).get().lease_owner == "another", "only one's own lease is freed"


def test_a_late_success_heals_the_mark_of_the_one_who_came_too_early(
    scripted, scripted_provider, make_connection, meanwhile
):
    slow = make_connection(age=7200)
    scripted.on("/token", Answer(400, {"error": "invalid_grant"}), Answer(body=FRESH))

    def be_refused() -> None:
        let_lease_run_out(slow)
        with pytest.raises(Exception, match="connected again"):
            Connection.objects.get(pk=slow.pk).refresh()
        assert stored(slow).status == "reauthorization_required"

    meanwhile(be_refused)

    assert slow.access_token() == "access-1"
    assert stored(slow).status == ACTIVE


def test_a_reconnect_during_a_refresh_wins(scripted, scripted_provider, make_connection, meanwhile, user):
    connection = make_connection(age=7200, account_id="same")
    scripted.on("/token", Answer(body=FRESH))
    again = {"access_token": "access-new", "refresh_token": "refresh-new", "token_type": "Bearer"}
    meanwhile(lambda: make_connection(account_id="same", response=again))

    assert connection.access_token() == "access-new"
    assert stored(connection).token.refresh_token == "refresh-new"
    assert not scripted.asked("/revoke"), "revoking the replaced token could end the new grant"


def test_a_reconnect_that_keeps_the_old_refresh_token_does_not_lose_the_one_being_issued(
    scripted, scripted_provider, make_connection, meanwhile
):
    """Some providers leave the refresh token out when an account consents again."""
    connection = make_connection(age=7200, account_id="same")
    scripted.on("/token", Answer(body=FRESH))
    again = {"access_token": "access-again", "token_type": "Bearer"}
    meanwhile(lambda: make_connection(account_id="same", response=again))

    assert connection.access_token() == "access-1"
    assert stored(connection).token.refresh_token == "refresh-1"


@pytest.mark.compliance("D46")
@pytest.mark.parametrize("ending", ["deleted", "disconnected"])
def test_a_token_issued_for_a_deleted_row_is_revoked(
    scripted, scripted_provider, make_connection, meanwhile, ending
):
    connection = make_connection(age=7200)
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/revoke", Answer(200))

    def end() -> None:
        other = Connection.objects.get(pk=connection.pk)
        other.delete() if ending == "deleted" else other.disconnect()

    meanwhile(end)

    with pytest.raises(Exception, match="disconnected"):
        connection.access_token()
    assert "refresh-1" in [request.form["token"] for request in scripted.asked("/revoke")]
    assert not Connection.objects.filter(status=ACTIVE).exists()


# --- not to an impatient time-out -----------------------------------------------------------------


@pytest.mark.parametrize("fault", LOST_ANSWERS.values(), ids=LOST_ANSWERS)
def test_a_lost_response_differs_from_a_revocation(scripted, scripted_provider, make_connection, fault):
    connection = make_connection(age=7200)
    scripted.on("/token", fault, Answer(400, {"error": "invalid_grant"}))

    with pytest.raises(Exception, match=r"did not arrive completely|not a token response"):
        connection.access_token()
    assert stored(connection).in_doubt
    assert stored(connection).status == ACTIVE

    with pytest.raises(Exception, match="may have been lost"):
        connection.refresh()
    assert stored(connection).last_error == "rotation_lost"


# --- not to key rotation --------------------------------------------------------------------------


def test_a_new_key_in_front_seals_what_comes_and_opens_what_was(codeyard, make_connection, configure):
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())
    old_keys = django_settings.OAUTH_CONNECT["KEYS"]
    new_key = base64.urlsafe_b64encode(b"n" * 32).decode()

    configure(KEYS=[new_key, *old_keys])
    Connection.objects.get(pk=connection.pk).refresh()
    configure(KEYS=[new_key])

    assert stored(connection).session().get("user").status_code == 200


@pytest.mark.compliance("D43")
def test_without_its_key_a_token_is_neither_spent_nor_deleted_nor_marked(
    scripted, scripted_provider, make_connection, configure
):
    connection = make_connection(age=7200)
    before = raw(connection).values().get()
    configure(KEYS=[base64.urlsafe_b64encode(b"x" * 32).decode()])

    with pytest.raises(Exception, match="Put back the key"):
        stored(connection).session().get("anything")

    assert raw(connection).values().get() == before
    assert not scripted.requests


# --- how the tests reach into a refresh -----------------------------------------------------------


def let_lease_run_out(connection: Connection) -> None:
    raw(connection).update(lease_until=0)


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Let something happen once, after the next refresh holds its lease and before it posts."""
    refresh = AuthorizationServer.refresh

    def arrange(happening: Callable[[], None]) -> None:
        pending = [happening]

        def interrupted(self: AuthorizationServer, *args: Any, **kwargs: Any) -> Any:
            if pending:
                as_another_process(pending.pop())
            return refresh(self, *args, **kwargs)

        monkeypatch.setattr(AuthorizationServer, "refresh", interrupted)

    return arrange


def as_another_process(happening: Callable[[], None]) -> None:
    """Act in a thread that does not wait for the one that leads, as another process would not."""

    def run() -> None:
        single_flight._renew()
        happening()

    in_another_thread(run)
