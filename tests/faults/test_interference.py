"""Something happens to the connection while a process is being answered by the provider."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.db import transaction

from oauth_connect.engine.store import ACTIVE, REVOKED
from oauth_connect.models import Connection
from oauth_connect.stores.columns import seal_token
from tests.servers.scripted import Answer
from tests.support.tokens import EXPIRED, FRESH, raw, stored

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted_provider")]

ANSWERS = {"answered": Answer(body=FRESH), "refused": Answer(400, {"error": "invalid_grant"})}


@pytest.fixture
def during(scripted: Any, start: Any) -> Callable[..., dict[str, Any]]:
    """Let something happen between a process's request and the provider's answer; return what it got."""

    def run(connection: Connection, happening: Callable[[], object], answer: Answer) -> dict[str, Any]:
        released = threading.Event()
        answer = Answer(answer.status, answer.body, hold=released)
        scripted.on("/token", answer)
        scripted.on("/revoke", Answer(200))
        worker = start(connection).ready().go()
        scripted.wait_for("/token")
        happening()
        released.set()
        result: dict[str, Any] = worker.result()
        return result

    return run


def revoked_tokens(scripted: Any) -> list[str]:
    return [request.form["token"] for request in scripted.asked("/revoke")]


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_reconnect_wins(make_connection, during, scripted, answer):
    connection = make_connection(age=EXPIRED, account_id="same")
    anew = {"access_token": "access-new", "refresh_token": "refresh-new", "token_type": "Bearer"}

    met = during(connection, lambda: make_connection(account_id="same", response=anew), answer)

    assert met == {"token": "access-new", "version": 1}
    kept = raw(connection).get()
    assert (kept.status, kept.token.refresh_token, kept.lease_owner) == (ACTIVE, "refresh-new", "")
    assert revoked_tokens(scripted) == [], "it could end the grant that has just been given"


@pytest.mark.compliance("D46")
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_disconnect_is_not_undone_and_the_issued_token_is_revoked(
    make_connection, during, scripted, answer
):
    connection = make_connection(age=EXPIRED)

    met = during(connection, lambda: stored(connection).disconnect(), answer)

    assert (met["error"], met["code"]) == ("ReauthorizationRequired", "disconnected")
    gone = raw(connection).get()
    assert (gone.status, gone.sealed_token, gone.lease_owner) == (REVOKED, None, "")
    minted = ["refresh-1"] if answer is ANSWERS["answered"] else []
    assert revoked_tokens(scripted) == ["refresh-0", *minted]


@pytest.mark.compliance("D46")
@pytest.mark.parametrize("whose", ["connection", "user"])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_deleted_row_stays_deleted_and_the_issued_token_is_revoked(
    make_connection, during, scripted, user, answer, whose
):
    connection = make_connection(age=EXPIRED)
    delete = stored(connection).delete if whose == "connection" else user.delete

    met = during(connection, delete, answer)

    assert (met["error"], met["code"]) == ("ReauthorizationRequired", "disconnected")
    assert not Connection.objects.exists()
    assert revoked_tokens(scripted) == (["refresh-1"] if answer is ANSWERS["answered"] else [])


@pytest.mark.compliance("D13")
def test_a_user_deactivated_meanwhile_keeps_the_new_token_and_gets_no_further_one(
    make_connection, during, scripted, user
):
    connection = make_connection(age=EXPIRED)

    def deactivate() -> None:
        user.is_active = False
        user.save()

    during(connection, deactivate, ANSWERS["answered"])

    kept = stored(connection)
    assert (kept.status, kept.version, kept.token.refresh_token) == (ACTIVE, 1, "refresh-1")
    with pytest.raises(Exception, match="deactivated"):
        kept.refresh()
    assert len(scripted.asked("/token")) == 1


@pytest.mark.compliance("D13")
def test_a_user_deactivated_meanwhile_whose_refresh_is_refused_meets_no_fault(make_connection, during, user):
    connection = make_connection(age=EXPIRED)

    def deactivate() -> None:
        user.is_active = False
        user.save()

    met = during(connection, deactivate, ANSWERS["refused"])

    assert met["error"] == "ReauthorizationRequired"
    left = raw(connection).get()
    assert (left.status, left.lease_owner) != (ACTIVE, "")


@pytest.mark.compliance("D61")
def test_a_provider_disabled_meanwhile_keeps_the_new_token_and_gets_no_more_requests(
    make_connection, during, scripted, scripted_entry, configure
):
    connection = make_connection(age=EXPIRED)
    turn_off = {"PROVIDERS": {"scripted": {**scripted_entry, "enabled": False}}}

    met = during(connection, lambda: configure(**turn_off), ANSWERS["answered"])

    assert met == {"token": "access-1", "version": 1}
    with pytest.raises(Exception, match="disabled"):
        stored(connection).refresh()
    assert stored(connection).token.refresh_token == "refresh-1"
    assert len(scripted.asked("/token")) == 1


@pytest.mark.compliance("D43")
def test_a_key_put_in_front_meanwhile_loses_nothing(make_connection, during, configure):
    """The process that refreshes still seals with the old key, which stays in the ring."""
    connection = make_connection(age=EXPIRED)
    new = base64.urlsafe_b64encode(b"n" * 32).decode()
    keys = [new, *settings.OAUTH_CONNECT["KEYS"]]

    during(connection, lambda: configure(KEYS=keys), ANSWERS["answered"])

    assert stored(connection).token.refresh_token == "refresh-1"


@pytest.mark.compliance("D43")
def test_a_key_rotation_that_reseals_the_row_meanwhile_does_not_restore_the_spent_token(
    make_connection, during, configure
):
    """As a rotation of keys must write: the sealed value alone, if the version is the one read."""
    connection = make_connection(age=EXPIRED)
    read = stored(connection)
    new = base64.urlsafe_b64encode(b"n" * 32).decode()
    keys = [new, *settings.OAUTH_CONNECT["KEYS"]]

    def seal_anew() -> None:
        configure(KEYS=keys)
        with transaction.atomic():
            assert raw(connection).filter(version=read.version).update(sealed_token=sealed_anew(read))

    during(connection, seal_anew, ANSWERS["answered"])

    assert stored(connection).token.refresh_token == "refresh-1"
    assert raw(connection).filter(version=read.version).update(sealed_token=sealed_anew(read)) == 0


def sealed_anew(connection: Connection) -> Any:
    field = Connection._meta.get_field("sealed_token")
    return field.to_python(seal_token(connection, connection.token))
