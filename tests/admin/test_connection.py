"""Connections in the admin: what is shown, to whom, and what is not."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.urls import resolve, reverse

from oauth_connect import crypto
from oauth_connect.models import Connection, ConsumedState, PendingRevocation
from tests.admin.pages import Staff, path, text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]

OTHER_KEY = base64.urlsafe_b64encode(b"a key of somebody else".ljust(32, b".")).decode()


@pytest.fixture
def no_crypto(configure, monkeypatch) -> None:
    """Keys that open nothing, and an alarm for whoever tries."""

    def refuse(*args: Any) -> Any:
        raise AssertionError("something was sealed or opened")

    configure(KEYS=[OTHER_KEY])
    monkeypatch.setattr(crypto, "unseal", refuse)
    monkeypatch.setattr(crypto, "seal", refuse)


# --- the list -------------------------------------------------------------------------------------


def test_a_row_says_who_what_and_how_it_fares(superuser, make_connection, change, user):
    connection = make_connection(age=3600 - 25 * 60 - 30, account_label="octocat", account_id="583231")
    now = datetime.now(UTC)
    change(connection, last_refreshed_at=now - timedelta(hours=3), failures=2, last_error="http_503")
    page = superuser.get("changelist")
    assert "octocat 583231 active scripted grace in 25 minutes 3 hours ago 2 http_503" in text(page)
    user_page = reverse("admin:accounts_user_change", args=[user.pk])
    assert f'<a href="{user_page}">grace</a>' in page.content.decode()


def test_a_row_without_these_says_so(superuser, make_connection, change):
    plain = {"access_token": "a", "token_type": "Bearer"}
    connection = make_connection(response=plain, owner="team:core", account_id="")
    change(connection, last_refreshed_at=None)
    assert "unnamed active scripted team:core no known expiry - -" in text(superuser.get("changelist"))


def test_the_owner_is_no_link_where_the_admin_knows_no_users(superuser, make_connection, monkeypatch, user):
    make_connection()
    monkeypatch.setattr("oauth_connect.admin.display.change_url", lambda *args: "")
    page = superuser.get("changelist")
    assert "grace" in text(page)
    assert str(user.pk) not in page.content.decode()


def test_what_a_provider_calls_an_account_is_escaped(superuser, make_connection):
    connection = make_connection(account_label="<script>alert(1)</script>")
    for page in (superuser.get("changelist"), superuser.get("change", connection.pk)):
        assert b"<script>alert(1)" not in page.content


def test_an_account_id_that_only_the_browser_has_named_is_marked(
    superuser, scripted_entry, configure, make_connection
):
    connection = make_connection(account_id="1234567890")
    note = "1234567890 From the browser; the provider has not confirmed it"
    assert note not in text(superuser.get("change", connection.pk))
    identity = {"source": "callback", "id": ["realmId"]}
    configure(PROVIDERS={"scripted": {**scripted_entry, "identity": identity}})
    assert note in text(superuser.get("change", connection.pk))


@pytest.mark.compliance("D43")
def test_pages_open_nothing_and_need_no_key(superuser, make_connection, request):
    connection = make_connection(account_label="octocat")
    request.getfixturevalue("no_crypto")
    for page in (
        superuser.get("changelist", q="grace", expiring="day"),
        superuser.get("change", connection.pk),
    ):
        assert page.status_code == 200
        assert "octocat" in text(page)


def test_the_number_of_queries_does_not_grow_with_the_rows(superuser, make_connection):
    def queries() -> list[str]:
        with CaptureQueriesContext(
            database,
        ) as captured:
            assert superuser.get("changelist").status_code == 200
        return [query["sql"] for query in captured]

    make_connection()
    for_one = queries()
    people = get_user_model().objects
    for number in range(12):
        make_connection(owner=people.create_user(username=f"user-{number}"))
        make_connection(owner=f"team:{number}")
    for_many = queries()
    assert len(for_many) == len(for_one) <= 8
    assert not [sql for sql in for_many if "sealed_token" in sql or "lease_owner" in sql]


# --- one connection -------------------------------------------------------------------------------


def test_a_page_shows_the_whole_state(superuser, make_connection, change):
    connection = make_connection(account_label="octocat")
    change(
        connection,
        status="reauthorization_required",
        last_error="rotation_lost",
        failures=3,
        in_doubt=True,
        scopes=["repo", "gist"],
        reconnect_before=datetime.now(UTC) + timedelta(days=5, hours=1),
    )
    page = text(superuser.get("change", connection.pk))
    assert "must be connected again Only the owner can do this" in page
    assert "rotation_lost The response to an earlier refresh may have been lost" in page
    assert "repo gist" in page
    assert "in 5 days" in page
    assert "soon" in page
    assert "The response to a refresh may have been lost. The next attempt shows whether" in page


def test_the_page_does_not_link_to_connecting(superuser, make_connection, change):
    """The connect page connects the account of whoever opens it: here, of the staff."""
    connection = change(make_connection(), status="reauthorization_required")
    for page in (superuser.get("changelist"), superuser.get("change", connection.pk)):
        assert connection.connect_url not in page.content.decode()
        assert "/connect/" not in page.content.decode()


# --- who may do what ------------------------------------------------------------------------------


@pytest.mark.compliance("D48")
def test_nothing_can_be_added_or_changed_even_by_a_superuser(superuser, make_connection):
    connection = make_connection(account_label="octocat")
    page = superuser.get("change", connection.pk)
    assert page.context["has_change_permission"] is False
    assert b'name="_save"' not in page.content
    assert b"<textarea" not in page.content
    assert superuser.get("add").status_code == 403
    assert superuser.post("add", owner="x").status_code == 403
    assert superuser.post("change", connection.pk, account_label="mine").status_code == 403
    assert Connection.objects.get().account_label == "octocat"


@pytest.mark.compliance("D48")
def test_staff_without_permission_get_403(make_connection):
    connection = make_connection()
    for staff in (Staff("view_providerstate"), Staff("refresh_connection", "disconnect_connection")):
        for page, args in [("changelist", ()), ("change", (connection.pk,)), ("history", (connection.pk,))]:
            assert staff.get(page, *args).status_code == 403
        assert staff.act("refresh_selected", [connection]).status_code == 403


@pytest.mark.compliance("D48")
def test_visitors_who_are_not_staff_are_sent_to_sign_in(visitor, make_connection):
    connection = make_connection()
    for page in (path("changelist"), path("change", connection.pk)):
        assert "/admin/login/" in visitor.get(page)["Location"]


@pytest.mark.compliance("D48")
def test_who_may_only_look_is_offered_nothing_else(viewer, make_connection):
    connection = make_connection()
    page = viewer.get("changelist")
    assert page.context["action_form"] is None
    assert b"action-select" not in page.content
    detail = viewer.get("change", connection.pk)
    assert b"refresh_selected" not in detail.content
    assert b"disconnect_selected" not in detail.content


@pytest.mark.parametrize(
    ("permission", "offered"),
    [("refresh_connection", "refresh_selected"), ("disconnect_connection", "disconnect_selected")],
)
@pytest.mark.compliance("D49")
def test_each_action_has_a_permission_of_its_own(make_connection, permission, offered):
    connection = make_connection()
    staff = Staff("view_connection", permission)
    choices = {value for value, _ in staff.get("changelist").context["action_form"].fields["action"].choices}
    assert choices == {"", offered}
    detail = staff.get("change", connection.pk).content.decode()
    assert [name for name in ("refresh_selected", "disconnect_selected") if name in detail] == [offered]


@pytest.mark.parametrize(
    ("status", "offered"),
    [
        ("active", ["refresh_selected", "disconnect_selected"]),
        ("reauthorization_required", ["disconnect_selected"]),
        ("revoked", []),
    ],
)
def test_a_page_offers_what_its_status_allows(superuser, make_connection, change, status, offered):
    connection = change(make_connection(), status=status)
    detail = superuser.get("change", connection.pk).content.decode()
    assert [name for name in ("refresh_selected", "disconnect_selected") if name in detail] == offered


# --- deleting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["active", "reauthorization_required", "revoked"])
def test_a_row_can_be_deleted_by_who_may_and_its_token_waits_for_its_revocation(
    superuser, viewer, make_connection, change, status
):
    connection = change(make_connection(), status=status)
    assert viewer.post("delete", connection.pk, post="yes").status_code == 403
    assert superuser.get("delete", connection.pk).status_code == 200
    assert superuser.post("delete", connection.pk, post="yes").status_code == 302
    assert not Connection.objects.exists()
    assert PendingRevocation.objects.get().open().refresh_token == "refresh-0"


def test_rows_are_deleted_one_by_one(superuser, make_connection):
    superuser.act("delete_selected", [make_connection()], post="yes")
    assert Connection.objects.exists()


def test_a_user_is_deleted_with_connections_whose_tokens_wait_for_their_revocation(
    superuser, make_connection, user
):
    make_connection()
    delete_user = reverse("admin:accounts_user_delete", args=[user.pk])
    assert superuser.client.post(delete_user, {"post": "yes"}).status_code == 302
    assert not Connection.objects.exists()
    assert PendingRevocation.objects.count() == 1


# --- seen by nobody -------------------------------------------------------------------------------

QUERIES: list[dict[str, str]] = [
    {},
    {"q": "grace"},
    {"expiring": "hour"},
    {"failing": "no"},
    {"status__exact": "active"},
    {"o": "1.2.3.4.5.6.7"},
    {"e": "1"},
    {"_facets": "True"},
]


@pytest.fixture
def sealed(make_connection, change, canary) -> Connection:
    """A connection with something to find in every column that must not be seen."""
    connection = make_connection(
        response={
            "access_token": f"{canary}-access",
            "refresh_token": f"{canary}-refresh",
            "id_token": f"{canary}-id",
            "token_type": "Bearer",
            "expires_in": 1800,
        },
        account_label="octocat",
        extra={"kept by the site": f"{canary}-extra"},
    )
    return change(connection, lease_owner=f"{canary}-lease"[:32], lease_until=4711_4711_4711)


def leaks(response: Any, canary: str, connection: Connection) -> list[str]:
    page = response.content.decode()
    secret = [canary, "gAAAA", connection.sealed_token.ciphertext[:20], connection.identity, "471147114711"]
    return [word for word in secret if word in page]


@pytest.mark.compliance("D45", "D48", "B9")
@pytest.mark.parametrize("query", QUERIES, ids=str)
@pytest.mark.parametrize("permissions", [(), ("view_connection",)], ids=["superuser", "viewer"])
def test_no_list_shows_a_token(sealed, canary, query, permissions):
    page = Staff(*permissions).get("changelist", **query)
    assert "octocat" in text(page)
    assert leaks(page, canary, sealed) == []


@pytest.mark.compliance("D45", "D48", "B9")
@pytest.mark.parametrize("page", ["change", "history", "delete"])
@pytest.mark.parametrize("permissions", [(), ("view_connection",)], ids=["superuser", "viewer"])
@pytest.mark.parametrize("status", ["active", "reauthorization_required", "revoked"])
def test_no_page_of_a_connection_shows_a_token(sealed, canary, change, page, permissions, status):
    connection = change(sealed, status=status)
    staff = Staff(*permissions)
    may_delete = not permissions
    response = staff.get(page, connection.pk)
    assert response.status_code == (200 if page != "delete" or may_delete else 403)
    assert leaks(response, canary, connection) == []


@pytest.mark.compliance("D48")
@pytest.mark.parametrize(
    "lookup",
    [
        "sealed_token",
        "sealed_token__startswith",
        "lease_owner__startswith",
        "identity__startswith",
        "extra__x",
    ],
)
def test_a_url_cannot_be_used_to_guess_what_is_masked(superuser, sealed, lookup):
    assert superuser.get("changelist", **{lookup: "g"}).status_code == 400


@pytest.mark.parametrize(
    ("field", "words"), [("username", "grace"), ("email", "g@app.example"), ("id", "ID"), ("groups", "GROUP")]
)
def test_a_connection_is_found_by_the_name_that_its_user_signs_in_with(
    superuser, make_connection, monkeypatch, user, field, words
):
    group = Group.objects.create(pk=987654)
    user.groups.add(group)
    get_user_model().objects.filter(pk=user.pk).update(email="g@app.example")
    make_connection()
    monkeypatch.setattr(get_user_model(), "USERNAME_FIELD", field)
    words = {"ID": str(user.pk), "GROUP": str(group.pk)}.get(words, words)
    assert superuser.get("changelist", q=words).context["cl"].result_count == 1
    assert superuser.get("changelist", q="nobody").context["cl"].result_count == 0


def test_search_looks_into_nothing_that_is_masked(superuser, sealed, canary):
    fields = admin.site.get_model_admin(Connection).get_search_fields(None)
    assert fields == ["owner", "account_id", "account_label", "user__username"]
    for words in (canary, "gAAAA", sealed.identity):
        assert superuser.get("changelist", q=words).context["cl"].result_count == 0


# --- around it ------------------------------------------------------------------------------------


def test_states_are_not_in_the_admin():
    assert not admin.site.is_registered(ConsumedState)


def test_actions_run_outside_of_atomic_requests():
    assert resolve(path("changelist")).func._non_atomic_requests == {"default", "other"}
