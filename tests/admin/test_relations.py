"""The admin of a site's own model that refers to a connection: widgets, filters, inlines, deletion."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import UserAdmin
from django.db import models
from django.urls import path, reverse

from oauth_connect.admin import ConnectionAdmin
from oauth_connect.models import Connection
from tests.accounts.models import Note, ProxyConnection, User
from tests.support.tokens import stored

pytestmark = pytest.mark.django_db


class NoteInline(admin.StackedInline):
    model = Note


class WithNote(ConnectionAdmin):
    """The page of a connection with what the site keeps of it."""

    inlines = [NoteInline]

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return True


class NoteAdmin(admin.ModelAdmin):
    autocomplete_fields = ["connection"]
    list_display = ["text", "connection"]
    list_filter = ["connection__provider", "connection__status", "connection__user", "connection"]
    search_fields = ["connection__account_label"]


class RawNoteAdmin(admin.ModelAdmin):
    raw_id_fields = ["connection"]


def site_of(name: str, **admins: Any) -> admin.AdminSite:
    site = admin.AdminSite(name)
    site.register(User, UserAdmin)
    site.register(Connection, admins.get("connection", ConnectionAdmin))
    site.register(Note, admins["note"])
    return site


class ProxyAdmin(ConnectionAdmin):
    """Registered for a proxy, in a site without the model itself. Django chooses the fields."""

    fieldsets = None


PROXIES = admin.AdminSite("proxies")
PROXIES.register(ProxyConnection, ProxyAdmin)
SITES = [site_of("lists", note=NoteAdmin), site_of("raw", note=RawNoteAdmin, connection=WithNote)]
urlpatterns = [path(f"{site.name}/", site.urls) for site in (*SITES, PROXIES)]


@pytest.fixture
def browser(settings: Any, client: Any, db: None) -> Any:
    settings.ROOT_URLCONF = __name__
    client.force_login(get_user_model().objects.create_superuser(username="root", password="p"))
    return client


@pytest.fixture
def connection(scripted_provider: Any, make_connection: Any) -> Connection:
    return make_connection(account_label="Ada's account")


def complete(browser: Any, term: str = "") -> list[dict[str, str]]:
    query = {"app_label": "accounts", "model_name": "note", "field_name": "connection", "term": term}
    response = browser.get(reverse("lists:autocomplete"), query)
    assert response.status_code == 200
    return json.loads(response.content)["results"]


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_checks_find_nothing(site: admin.AdminSite) -> None:
    assert site.check(None) == []


@pytest.mark.parametrize("term", ["", "Ada", "grace", "user:"])
def test_a_field_with_autocompletion_finds_a_connection(
    browser: Any, connection: Connection, term: str
) -> None:
    assert complete(browser, term) == [{"id": str(connection.pk), "text": "scripted: Ada's account"}]


def test_autocompletion_finds_nothing_by_a_token(browser: Any, connection: Connection) -> None:
    assert [complete(browser, term) for term in ("access-0", "gAAAA", connection.identity)] == [[]] * 3


def test_autocompletion_is_for_staff_who_may_view_connections(browser: Any, connection: Connection) -> None:
    staff = get_user_model().objects.create_user(username="s", password="p", is_staff=True)
    browser.force_login(staff)
    query = {"app_label": "accounts", "model_name": "note", "field_name": "connection", "term": ""}
    assert browser.get(reverse("lists:autocomplete"), query).status_code == 403


@pytest.mark.parametrize("site", ["lists", "raw"])
def test_a_row_is_added_and_shown_with_its_connection(
    browser: Any, connection: Connection, site: str
) -> None:
    data = {"connection": str(connection.pk), "text": "a note"}
    assert browser.post(reverse(f"{site}:accounts_note_add"), data).status_code == 302
    page = browser.get(reverse(f"{site}:accounts_note_change", args=[Note.objects.get().pk]))
    assert "scripted: Ada&#x27;s account" in page.text


def test_the_popup_of_a_raw_id_field_offers_the_connection(browser: Any, connection: Connection) -> None:
    page = browser.get(reverse("raw:oauth_connect_connection_changelist"), {"_popup": "1", "_to_field": "id"})
    assert f'data-popup-opener="{connection.pk}"' in page.text


@pytest.mark.parametrize(
    ("lookup", "value", "found"),
    [
        ("connection__provider", "scripted", 1),
        ("connection__provider", "another", 0),
        ("connection__status__exact", "active", 1),
        ("connection__status__exact", "revoked", 0),
        ("connection__user__id__exact", "OWNER", 1),
        ("connection__id__exact", "PK", 1),
    ],
)
def test_lists_are_filtered_through_the_relation(
    browser: Any, connection: Connection, lookup: str, value: str, found: int
) -> None:
    Note.objects.create(connection=connection, text="a note")
    value = {"OWNER": str(connection.user_id), "PK": str(connection.pk)}.get(value, value)
    page = browser.get(reverse("lists:accounts_note_changelist"), {lookup: value})
    assert page.context["cl"].result_count == found


def test_a_url_cannot_filter_through_the_relation_by_a_token(browser: Any, connection: Connection) -> None:
    for column in ("sealed_token", "extra", "identity"):
        url = reverse("lists:accounts_note_changelist")
        assert browser.get(url, {f"connection__{column}__startswith": "g"}).status_code == 400


def test_an_inline_is_edited_on_the_page_of_its_connection(browser: Any, connection: Connection) -> None:
    url = reverse("raw:oauth_connect_connection_change", args=[connection.pk])
    inline = browser.get(url).context["inline_admin_formsets"][0].formset.prefix
    form = {f"{inline}-TOTAL_FORMS": "1", f"{inline}-INITIAL_FORMS": "0", f"{inline}-0-text": "a note"}
    form |= {f"{inline}-0-connection": str(connection.pk), "status": "revoked", "account_label": "another"}
    before = stored(connection)

    assert browser.post(url, form).status_code == 302

    assert Note.objects.get().text == "a note"
    assert columns(stored(connection)) == columns(before)


def columns(connection: Connection) -> dict[str, Any]:
    fields = Connection._meta.concrete_fields
    return {f.attname: getattr(connection, f.attname) for f in fields if f.attname != "updated_at"}


@pytest.mark.parametrize("on_delete", [models.PROTECT, models.RESTRICT])
def test_a_protected_connection_is_not_deleted_and_the_page_says_why(
    browser: Any, connection: Connection, monkeypatch: Any, on_delete: Any
) -> None:
    monkeypatch.setattr(Note._meta.get_field("connection").remote_field, "on_delete", on_delete)
    Note.objects.create(connection=connection, text="a protecting note")
    url = reverse("lists:oauth_connect_connection_delete", args=[connection.pk])
    assert "a protecting note" in browser.get(url).text
    browser.post(url, {"post": "yes"})
    assert stored(connection)


def test_an_action_on_a_proxy_returns_to_the_page_of_the_proxy(browser: Any, connection: Connection) -> None:
    page = reverse("proxies:accounts_proxyconnection_change", args=[connection.pk])
    data = {"action": "disconnect_selected", "_selected_action": connection.pk, "confirmed": "yes"}
    changelist = reverse("proxies:accounts_proxyconnection_changelist")
    done = browser.post(changelist, {**data, "from_page": "1"})
    assert done["Location"] == page
    assert browser.get(page).status_code == 200
    assert stored(connection).status == "revoked"


def test_a_subclass_without_fieldsets_does_not_show_what_belongs_to_the_site(
    browser: Any, make_connection: Any, scripted_provider: Any
) -> None:
    connection = make_connection(extra={"note": "a secret of the site"})
    page = browser.get(reverse("proxies:accounts_proxyconnection_change", args=[connection.pk]))
    assert page.status_code == 200
    assert "a secret of the site" not in page.text
