"""One account with several sites, tenants or organisations: the user chooses, and it stays so."""

from __future__ import annotations

from typing import Any

import pytest

from oauth_connect import flows
from oauth_connect.contrib.httpx import client
from oauth_connect.errors import ForbiddenDestination, ReauthorizationRequired
from oauth_connect.flows.account import accessible_sites
from oauth_connect.models import Connection
from tests.servers.scripted import Answer
from tests.support.tokens import EXPIRED

pytestmark = pytest.mark.django_db(transaction=True)
SITES = [
    {"id": "s-1", "name": "Acme", "base": "one"},
    {"id": "s-2", "name": "Mills <b>", "base": "two", "is_default": True},
]


@pytest.fixture
def sites(scripted, scripted_entry, configure, issues) -> Any:
    """A provider whose accounts have sites. Its API is below the site that a connection uses."""

    def change(found: Any = SITES, **accounts: Any) -> None:
        scripted.on("/sites", Answer(body=found))
        pattern = {"source": "accounts", "pattern": "[a-z0-9-]+"}
        entry = {
            **scripted_entry,
            "api_base_url": f"{scripted.url}/api/{{base}}/{{site}}/",
            "identity": {"source": "token_response", "id": ["account_id"]},
            "accounts": {
                "endpoint": f"{scripted.url}/sites",
                "variable": "site",
                "variables": {"base": "base"},
                **accounts,
            },
            "variables": {"site": pattern, "base": pattern},
        }
        configure(PROVIDERS={"scripted": entry})

    change()
    issues(account_id="grace")
    scripted.on("/api/one/s-1/me", Answer(body={"at": "s-1"}))
    scripted.on("/api/two/s-2/me", Answer(body={"at": "s-2"}))
    return change


def page_of(connection: Connection) -> str:
    return f"/oauth/{connection.pk}/site/"


def test_of_several_sites_the_user_chooses_one_and_then_goes_on(visitor, sites, user) -> None:
    response = visitor.connect(next="/back/")
    connection = Connection.objects.get()
    assert response["Location"] == f"{page_of(connection)}?next=%2Fback%2F"
    assert connection.variables == {"site": ""}

    page = visitor.get(response["Location"])
    assert [site.id for site in page.context["sites"]] == ["s-1", "s-2"]
    assert "Mills &lt;b&gt;" in page.content.decode()
    assert "checked" not in page.content.decode()
    chosen = visitor.post(response["Location"], {"site": "s-2"})
    assert chosen["Location"] == "/back/"

    connection.refresh_from_db()
    assert connection.variables == {"site": "s-2", "base": "two"}
    assert flows.session_for(user, "scripted").get("me").json() == {"at": "s-2"}


def test_until_then_calls_send_the_user_to_the_page(visitor, sites, user) -> None:
    visitor.connect()
    with pytest.raises(ReauthorizationRequired) as required:
        flows.session_for(user, "scripted")
    assert required.value.reason == "site_undecided"
    assert required.value.connect_url == page_of(Connection.objects.get())
    assert "Choose an organisation or site" in visitor.get("/oauth/").content.decode()


@pytest.mark.parametrize("open_session", [Connection.session, client], ids=["requests", "httpx"])
def test_a_session_of_the_connection_itself_names_what_to_do(open_session, visitor, sites, scripted) -> None:
    visitor.connect()
    expected = pytest.raises(ForbiddenDestination, match=r"choose a site .* page oauth_connect:site")
    with open_session(Connection.objects.get()) as http, expected as refused:
        http.get("me")
    assert "Connect the account again" not in str(refused.value)
    assert not scripted.asked("/api/one/s-1/me")


@pytest.mark.parametrize("found", [SITES[:1], [], SITES])
def test_one_site_is_used_without_asking_and_none_is_no_error(visitor, sites, found) -> None:
    sites(found)
    location = visitor.connect(next="/back/")["Location"]
    assert (location == "/back/") is (len(found) < 2)
    assert Connection.objects.get().variables.get("site") == {0: None, 1: "s-1", 2: ""}[len(found)]


def test_the_default_of_the_provider_is_listed_first(visitor, sites) -> None:
    sites(preferred="is_default")
    page = visitor.get(visitor.connect()["Location"])
    assert [site.id for site in page.context["sites"]] == ["s-2", "s-1"]


def test_a_choice_survives_a_reconnect_and_can_be_changed(visitor, sites) -> None:
    visitor.connect()
    connection = Connection.objects.get()
    visitor.post(page_of(connection), {"site": "s-1"})
    assert visitor.connect(next="/back/")["Location"] == "/back/"
    assert Connection.objects.get().variables == {"site": "s-1", "base": "one"}

    assert "Change the organisation or site" in visitor.get("/oauth/").content.decode()
    page = visitor.get(page_of(connection))
    assert page.context["in_use"] == "s-1"
    assert page.content.decode().count("checked") == 1
    visitor.post(page_of(connection), {"site": "s-2"})
    assert Connection.objects.get().variables == {"site": "s-2", "base": "two"}


def test_a_site_that_is_gone_is_asked_for_again(visitor, sites) -> None:
    visitor.connect()
    visitor.post(page_of(Connection.objects.get()), {"site": "s-1"})
    sites([*SITES[1:], {"id": "s-3", "name": "Third", "base": "three"}])
    visitor.connect()
    assert Connection.objects.get().variables["site"] == ""


@pytest.mark.parametrize("chosen", ["s-9", "", "../x"])
def test_what_the_account_does_not_have_cannot_be_chosen(visitor, sites, chosen) -> None:
    visitor.connect()
    response = visitor.post(page_of(Connection.objects.get()), {"site": chosen})
    assert response.status_code == 400
    assert "Choose one of these." in response.content.decode()
    assert Connection.objects.get().variables == {"site": ""}


def test_a_wrong_choice_asks_the_provider_once(visitor, sites, scripted) -> None:
    visitor.connect()
    asked_before = len(scripted.asked("/sites"))
    visitor.post(page_of(Connection.objects.get()), {"site": "s-9"})
    assert len(scripted.asked("/sites")) == asked_before + 1


@pytest.mark.parametrize(
    ("found", "field"),
    [
        ([{"id": "s-1", "name": "Acme", "base": "not a base"}], "variables.base"),
        ([{"id": "s-1", "name": "Acme"}], "accounts.variables.base"),
        ([{"name": "Acme", "base": "one"}], "accounts.id"),
    ],
)
def test_a_list_that_does_not_fit_the_entry_is_logged_and_changes_nothing(
    visitor, sites, caplog, found, field
) -> None:
    visitor.connect()
    sites(found)
    page = page_of(Connection.objects.get())
    assert visitor.get(page).status_code == 200
    assert visitor.post(page, {"site": "s-1"}).status_code == 400
    assert Connection.objects.get().variables == {"site": ""}
    logged = [record for record in caplog.records if getattr(record, "action", "") == "variable_refused"]
    assert {record.levelname for record in logged} == {"WARNING"}
    assert f"scripted.{field}" in logged[-1].getMessage()


def test_the_page_refreshes_a_token_that_has_expired(visitor, sites, make_connection, scripted) -> None:
    connection = make_connection(account_id="grace", variables={"site": ""}, age=EXPIRED)
    assert visitor.get(page_of(connection)).status_code == 200
    assert len(scripted.asked("/token")) == 1


@pytest.mark.parametrize(
    ("answer", "status"),
    [(Answer(503), 503), (Answer(cut=-1), 503), (Answer(403), 502), (Answer(body={}), 502)],
)
def test_a_list_that_does_not_come_is_a_page_and_changes_nothing(
    visitor, sites, scripted, answer, status
) -> None:
    visitor.connect()
    connection = Connection.objects.get()
    scripted.on("/sites", answer)
    assert visitor.get(page_of(connection)).status_code == status
    assert visitor.post(page_of(connection), {"site": "s-1"}).status_code == status
    assert Connection.objects.get().variables == {"site": ""}


@pytest.mark.parametrize("meanwhile", ["delete", "disconnect", "move_to"])
def test_a_choice_changes_no_connection_that_ended_or_moved_while_the_provider_was_asked(
    visitor, sites, monkeypatch, other_user, meanwhile
) -> None:
    visitor.connect()
    connection = Connection.objects.get()

    def asked(*arguments: Any) -> Any:
        found = accessible_sites(*arguments)
        getattr(Connection.objects.get(), meanwhile)(*[other_user] * (meanwhile == "move_to"))
        return found

    monkeypatch.setattr("oauth_connect.flows.site.accessible_sites", asked)
    assert visitor.post(page_of(connection), {"site": "s-1"}).status_code == 404
    assert [row.variables for row in Connection.objects.all()] == [{"site": ""}][meanwhile == "delete" :]


def test_an_account_without_sites_is_told_to_connect_again(visitor, sites) -> None:
    visitor.connect()
    sites([])
    page = visitor.get(page_of(Connection.objects.get()))
    assert page.status_code == 200
    assert "Connect it again" in page.content.decode()


def test_the_page_is_for_the_owner_and_for_providers_with_sites(
    visitor, sites, make_connection, other_user, scripted_provider
) -> None:
    theirs = make_connection(owner=other_user, account_id="ada")
    assert visitor.get(page_of(theirs)).status_code == 404
    assert visitor.post(page_of(theirs), {"site": "s-1"}).status_code == 404
