from __future__ import annotations

import pytest

from oauth_connect.models import Connection, Owner
from tests.servers.scripted import Answer
from tests.support.visitor import Visitor

pytestmark = pytest.mark.django_db


def test_without_a_connection_the_page_offers_the_providers(visitor, scripted_entry, configure):
    configure(
        PROVIDERS={
            "scripted": {**scripted_entry, "name": "Codeyard"},
            "off": {**scripted_entry, "name": "Turned off", "enabled": False},
            "machine": {**scripted_entry, "name": "Machines only", "authorization_endpoint": ""},
        }
    )

    page = visitor.get("/oauth/")

    assert b"No account is connected yet." in page.content
    assert b'href="/oauth/scripted/connect/">Codeyard</a>' in page.content
    assert b"Turned off" not in page.content
    assert b"Machines only" not in page.content


def test_an_entry_that_cannot_work_does_not_take_the_page_from_the_others(
    visitor, scripted_entry, configure, caplog
):
    misspelt = {**scripted_entry, "client_secrt": "x"}
    configure(PROVIDERS={"scripted": {**scripted_entry, "name": "Codeyard"}, "broken": misspelt})
    page = visitor.get("/oauth/")
    assert page.status_code == 200
    assert b">Codeyard</a>" in page.content
    assert b"/broken/" not in page.content
    assert [record.action for record in caplog.records if hasattr(record, "action")] == ["provider_invalid"]


def test_the_page_shows_an_owner_s_accounts_with_scopes(visitor, scripted_provider, make_connection):
    answer = {"access_token": "a", "token_type": "Bearer", "scope": "read write"}
    make_connection(account_label="ada@example.com", response=answer)

    page = visitor.get("/oauth/").content.decode()

    assert "ada@example.com" in page
    assert "read, write" in page
    assert "Disconnect" in page
    assert "Connect again" not in page


@pytest.mark.compliance("D57")
def test_no_user_sees_another_s_accounts(other_user, scripted_provider, make_connection):
    make_connection(account_label="ada@example.com")

    assert b"ada@example.com" not in Visitor(other_user).get("/oauth/").content


def test_what_was_disconnected_is_shown_no_longer(visitor, scripted_provider, make_connection):
    make_connection(account_label="ada@example.com").disconnect()

    assert b"ada@example.com" not in visitor.get("/oauth/").content


def test_a_dead_connection_offers_to_connect_that_account_again(
    visitor, scripted, scripted_provider, make_connection
):
    connection = make_connection()
    scripted.on("/token", Answer(400, {"error": "invalid_grant"}))
    with pytest.raises(Exception, match="connected again"):
        connection.refresh()

    page = visitor.get("/oauth/").content.decode()

    assert f'href="/oauth/scripted/connect/?connection={connection.pk}"' in page


@pytest.mark.compliance("D61")
@pytest.mark.parametrize("turned_off", [True, False])
def test_the_account_of_a_provider_that_is_gone_is_shown_and_can_be_disconnected(
    turned_off, visitor, scripted_entry, scripted_provider, make_connection, configure
):
    connection = make_connection(account_label="ada@example.com")
    configure(PROVIDERS={"scripted": {**scripted_entry, "enabled": False}} if turned_off else {})

    page = visitor.get("/oauth/").content.decode()

    assert "ada@example.com" in page
    assert "No longer offered by this site" in page
    assert f"/oauth/{connection.pk}/disconnect/" in page
    assert "/connect/" not in page


def test_a_provider_that_a_site_keeps_elsewhere_is_not_gone(
    visitor, scripted_entry, scripted_provider, make_connection, configure
):
    make_connection()
    configure(PROVIDERS={}, PROVIDER_LOADER=lambda slug, owner: scripted_entry)

    assert b"No longer offered" not in visitor.get("/oauth/").content


def test_who_may_not_manage_sees_accounts_and_no_buttons(
    visitor, scripted_provider, make_connection, configure
):
    make_connection(owner=Owner("org:1"), account_label="The organisation")
    configure(OWNER=lambda request: Owner("org:1", may_manage=False))

    page = visitor.get("/oauth/").content.decode()

    assert "The organisation" in page
    assert "/connect/" not in page.replace("/static/oauth_connect/", "")
    assert "/disconnect/" not in page


@pytest.mark.compliance("D43")
def test_the_page_needs_no_key(visitor, scripted_provider, make_connection, configure):
    make_connection(account_label="ada@example.com")
    configure(KEYS=["A" * 43 + "="])

    assert b"ada@example.com" in visitor.get("/oauth/").content


def test_the_page_costs_as_many_queries_for_many_accounts_as_for_one(
    visitor, scripted_provider, make_connection, django_assert_max_num_queries
):
    for _ in range(10):
        make_connection()

    with django_assert_max_num_queries(3):  # the session, the user, the connections
        visitor.get("/oauth/")
    assert Connection.objects.count() == 10


@pytest.mark.parametrize(("days", "told"), [(20, True), (40, False), (None, False)])
def test_the_page_warns_of_an_access_that_no_refresh_can_prolong(
    visitor, scripted_entry, configure, make_connection, days, told
):
    seconds = days and days * 86400
    configure(PROVIDERS={"scripted": {**scripted_entry, "refresh": {"absolute_seconds": seconds}}})
    make_connection()

    page = visitor.get("/oauth/").content

    assert (b"Connect it again before" in page) is told
    assert (b"Connect again" in page) is told
