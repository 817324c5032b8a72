"""The small tables beside connections: to look at, and nothing else."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from oauth_connect.models import ConnectionEvent, PendingRevocation, ProviderState
from oauth_connect.protocol.token import Token
from tests.admin.pages import Staff, path, text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]


@pytest.fixture
def state():
    since = datetime.now(UTC) - timedelta(hours=5, seconds=5)
    return ProviderState.objects.create(
        provider="scripted", alarm="invalid_client", alarm_since=since, fingerprint="f" * 64
    )


@pytest.fixture
def pending(make_connection, canary):
    connection = make_connection()
    pending = PendingRevocation.of(connection)
    pending.seal(Token(access_token=f"{canary}-access", obtained_at=datetime.now(UTC)))
    pending.attempts, pending.last_error = 2, "http_503"
    pending.save()
    waiting_since = datetime.now(UTC) - timedelta(days=3, seconds=5)
    PendingRevocation.objects.update(created_at=waiting_since)
    return pending


@pytest.fixture
def event(make_connection, user):
    facts = {"provider": "scripted", "owner": "team:core", "actor": user}
    return ConnectionEvent.objects.create(
        connection_id=make_connection().pk, action="refresh_failed", error="http_503", **facts
    )


def test_an_alarm_is_seen_and_explained(superuser, state):
    assert "scripted invalid_client 5 hours ago" in text(superuser.get("changelist", model="providerstate"))
    page = text(superuser.get("change", state.pk, model="providerstate"))
    assert "invalid_client The provider does not accept this site as a client." in page


def test_a_healthy_provider_has_none(superuser):
    state = ProviderState.objects.create(provider="scripted")
    assert "scripted - - 0 -" in text(superuser.get("changelist", model="providerstate"))
    assert superuser.get("change", state.pk, model="providerstate").status_code == 200


def test_a_pending_revocation_says_how_long_it_waits(superuser, pending):
    page = superuser.get("changelist", model="pendingrevocation")
    assert "3 days ago 2 just now http_503" in text(page)
    assert "1 pending revocation" in text(page)
    assert path("change", pending.connection_id) in page.content.decode()


def test_one_that_has_not_been_tried_has_no_error(superuser, pending):
    PendingRevocation.objects.update(last_error="", attempts=0)
    assert "3 days ago 0 just now -" in text(superuser.get("changelist", model="pendingrevocation"))
    assert "http_503" not in text(superuser.get("change", pending.pk, model="pendingrevocation"))


def test_an_event_says_what_happened(superuser, event):
    page = superuser.get("changelist", model="connectionevent")
    assert "just now refresh failed scripted team:core grace http_503" in text(page)
    assert path("change", event.connection_id) in page.content.decode()


def test_the_page_of_a_connection_that_is_gone_leads_to_the_list(superuser):
    assert superuser.get("change", uuid.uuid4()).status_code == 302


@pytest.mark.compliance("D45", "D48")
@pytest.mark.parametrize("model", ["providerstate", "pendingrevocation", "connectionevent"])
@pytest.mark.parametrize("superuser_or_viewer", [True, False], ids=["superuser", "viewer"])
def test_they_can_only_be_looked_at_and_show_no_token(
    request, state, pending, event, canary, model, superuser_or_viewer
):
    row = {"providerstate": state, "pendingrevocation": pending, "connectionevent": event}[model]
    staff = Staff() if superuser_or_viewer else Staff(f"view_{model}")
    pages = [staff.get("changelist", model=model)]
    pages += [staff.get(page, row.pk, model=model) for page in ("change", "history")]
    for page in pages:
        assert page.status_code == 200
        assert not [word for word in (canary, "gAAAA", "f" * 64) if word in page.content.decode()]
    for page, args in [("add", ()), ("delete", (row.pk,))]:
        assert staff.get(page, *args, model=model).status_code == 403
    assert staff.post("change", row.pk, model=model).status_code == 403
    assert Staff("view_connection").get("changelist", model=model).status_code == 403


@pytest.mark.compliance("D48")
def test_a_url_cannot_be_used_to_guess_a_sealed_token(superuser, pending):
    answer = superuser.get("changelist", model="pendingrevocation", sealed_token__startswith="g")
    assert answer.status_code == 400
