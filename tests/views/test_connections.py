from __future__ import annotations

import pytest

from oauth_connect.flows.choice import choose
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


@pytest.mark.parametrize(
    "machine",
    [{"authorization_endpoint": ""}, {"grant_types": ["client_credentials"]}],
    ids=["without an endpoint", "by grant_types"],
)
def test_an_entry_that_no_person_connects_is_no_button(visitor, scripted_entry, configure, machine):
    configure(PROVIDERS={"scripted": scripted_entry, "reports": {**scripted_entry, **machine}})
    page = visitor.get("/oauth/").content.decode()
    assert "/oauth/scripted/connect/" in page
    assert "/oauth/reports/connect/" not in page
    assert visitor.get("/oauth/reports/connect/").status_code == 404
    assert visitor.post("/oauth/reports/connect/").status_code == 404


def test_an_account_of_the_device_flow_alone_is_not_called_gone(
    visitor, scripted_provider, scripted_entry, configure, make_connection
):
    make_connection(account_label="Grace's terminal")
    configure(PROVIDERS={"scripted": {**scripted_entry, "authorization_endpoint": ""}})
    page = visitor.get("/oauth/").content.decode()
    assert "Grace&#x27;s terminal" in page
    assert "No longer offered by this site" not in page
    assert "/oauth/scripted/connect/" not in page
    configure(PROVIDERS={"scripted": {**scripted_entry, "authorization_endpoint": "", "enabled": False}})
    assert "No longer offered by this site" in visitor.get("/oauth/").content.decode()


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


# --- several accounts -----------------------------------------------------------------------------

CHOOSE = 'href="/oauth/scripted/accounts/"'


def test_one_account_is_not_said_to_be_used(visitor, scripted_provider, make_connection):
    make_connection()

    page = visitor.get("/oauth/").content.decode()

    assert "This account is used." not in page
    assert CHOOSE not in page


def test_several_accounts_are_said_to_be_open_and_can_be_chosen(visitor, scripted_provider, make_connection):
    make_connection()
    make_connection()

    page = visitor.get("/oauth/").content.decode()

    assert page.count("Which account is used is not chosen yet.") == page.count(CHOOSE) == 2


@pytest.mark.parametrize("ended", [False, True])
def test_the_chosen_account_is_said_to_be_used_and_can_be_changed(
    ended, visitor, user, scripted, scripted_provider, make_connection
):
    """Even if it must be connected again: otherwise the page had no way to the other account."""
    make_connection(account_label="linus")
    chosen = choose(Owner.of(user), "scripted", make_connection(account_label="ada").pk)
    if ended:
        scripted.on("/token", Answer(400, {"error": "invalid_grant"}))
        with pytest.raises(Exception, match="connected again"):
            chosen.refresh()

    page = visitor.get("/oauth/").content.decode()
    card = page[page.index("ada</p>") : page.index("linus</p>")]

    assert page.count("This account is used.") == card.count("This account is used.") == 1
    assert page.count(CHOOSE) == card.count(CHOOSE) == 1


def test_who_may_not_manage_sees_which_account_is_used_and_no_link(
    visitor, user, scripted_provider, make_connection, configure
):
    configure(OWNER=lambda request: Owner("org:1", may_manage=False))
    make_connection(owner="org:1")
    choose(Owner("org:1"), "scripted", make_connection(owner="org:1").pk)

    page = visitor.get("/oauth/").content.decode()

    assert "This account is used." in page
    assert CHOOSE not in page


@pytest.mark.parametrize("ended", [False, True])
def test_where_one_account_is_allowed_another_is_not_offered_in_addition(
    ended, visitor, scripted, scripted_entry, make_connection, configure
):
    configure(PROVIDERS={"scripted": {**scripted_entry, "one_account": True}})
    link = 'href="/oauth/scripted/connect/"'
    assert "Connect an account" in visitor.get("/oauth/").content.decode()

    connection = make_connection()
    if ended:
        scripted.on("/token", Answer(400, {"error": "invalid_grant"}))
        with pytest.raises(Exception, match="connected again"):
            connection.refresh()
    page = visitor.get("/oauth/").content.decode()

    assert "Connect an account" not in page
    assert page.count(link) == 1
    assert ">Replace</a>" in page


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
