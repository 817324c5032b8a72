"""The history in the admin: on the page of a connection, and of what staff do."""

from __future__ import annotations

import pytest

from oauth_connect.models import ConnectionEvent
from oauth_connect.models.lifecycle import history
from tests.admin.pages import Staff, path, text
from tests.servers.scripted import Answer

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]


@pytest.fixture
def connection(make_connection):
    return make_connection(account_label="ada@example.com")


def test_the_page_of_a_connection_shows_its_last_events_and_leads_to_all(superuser, connection, user):
    history.record(connection, history.Action.REFRESH_FAILED, error="http_503")
    page = superuser.get("change", connection.pk)
    assert "just now refresh failed - http_503 just now connected grace -" in text(page)
    link = f"{path('changelist', model='connectionevent')}?connection_id__exact={connection.pk}"
    assert link in page.content.decode()


def test_the_list_behind_the_link_has_only_these(superuser, connection, make_connection):
    make_connection()
    found = superuser.get("changelist", model="connectionevent", connection_id__exact=str(connection.pk))
    assert "1 connection event" in text(found)


def test_without_events_there_is_nothing(superuser, connection):
    ConnectionEvent.objects.all().delete()
    assert "History Last events: -" in text(superuser.get("change", connection.pk))


@pytest.mark.compliance("D48")
def test_only_who_may_view_events_sees_them(connection):
    one, other = Staff("view_connection"), Staff("view_connection", "view_connectionevent")
    assert "Last events" not in text(one.get("change", connection.pk))
    assert "Last events" in text(other.get("change", connection.pk))


def test_many_events_cost_no_more_queries_and_no_key(
    superuser, connection, configure, django_assert_max_num_queries, other_user
):
    superuser.get("change", connection.pk)
    with django_assert_max_num_queries(12) as few:
        superuser.get("change", connection.pk)
    history.write([history.of(connection, history.Action.KEY_ROTATED, actor=other_user) for _ in range(60)])
    configure(KEYS=["bm90IHRoZSBrZXkgdGhhdCBzZWFsZWQgdGhlIHJvd3M="])
    with django_assert_max_num_queries(len(few)):
        page = text(superuser.get("change", connection.pk))
    assert page.count("key rotated mallory") == 10
    with django_assert_max_num_queries(12):
        assert "61 connection events" in text(superuser.get("changelist", model="connectionevent"))


@pytest.mark.compliance("D49")
def test_a_disconnect_by_staff_differs_from_one_by_the_owner(superuser, connection, scripted):
    scripted.on("/revoke", Answer(200))
    superuser.act("disconnect_selected", [connection], confirmed="yes")
    newest = ConnectionEvent.objects.latest("pk")
    assert (newest.action, newest.actor) == ("revoked_by_staff", superuser.user)


def test_what_an_owner_disconnects_bears_the_owners_name(visitor, connection, user, scripted):
    scripted.on("/revoke", Answer(200))
    visitor.post(f"/oauth/{connection.pk}/disconnect/")
    newest = ConnectionEvent.objects.latest("pk")
    assert (newest.action, newest.actor) == ("disconnected", user)
