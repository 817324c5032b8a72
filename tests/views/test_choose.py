"""The page "Which account?"."""

from __future__ import annotations

import pytest
from django.test import Client

from oauth_connect.flows import connection_for
from oauth_connect.models import Connection, Owner
from tests.support.visitor import Visitor, query_of

pytestmark = pytest.mark.django_db

CHOOSE = "/oauth/scripted/accounts/"


@pytest.fixture
def two(scripted_provider, make_connection):
    """Two active accounts of one user."""
    return [make_connection(account_id=name, account_label=name) for name in ("ada", "linus")]


def chosen():
    return list(Connection.objects.filter(chosen_at__isnull=False))


def test_the_page_lists_the_active_accounts_and_chooses_none(visitor, two, make_connection):
    make_connection(account_label="edsger").disconnect()

    page = visitor.get(CHOOSE).content.decode()

    assert "ada" in page
    assert "linus" in page
    assert "edsger" not in page
    assert " checked" not in page
    assert chosen() == []


def test_accounts_of_one_name_are_shown_with_their_ids(visitor, scripted_provider, make_connection):
    for account_id in ("id-1", "id-2"):
        make_connection(account_id=account_id, account_label="Ada Lovelace")

    page = visitor.get(CHOOSE).content.decode()

    assert "Ada Lovelace (id-1)" in page
    assert "Ada Lovelace (id-2)" in page


def test_a_choice_is_kept_and_leads_back(visitor, user, two):
    response = visitor.post(f"{CHOOSE}?next=/reports/%3Fa%3D1", {"connection": two[1].pk})

    assert (response.status_code, response["Location"]) == (302, "/reports/?a=1")
    assert connection_for(user, "scripted") == two[1]
    assert f'value="{two[1].pk}" required checked' in visitor.get(CHOOSE).content.decode()


def test_without_a_page_to_go_back_to_the_choice_leads_to_the_list(visitor, two):
    assert visitor.post(CHOOSE, {"connection": two[0].pk})["Location"] == "/oauth/"


@pytest.mark.parametrize("target", ["//evil.test", "https://evil.test/", "javascript:alert(1)"])
@pytest.mark.parametrize("where", ["query", "form"])
def test_a_choice_never_leads_to_another_site(target, where, visitor, two):
    assert b"evil" not in visitor.get(CHOOSE, {"next": target}).content
    data = {"connection": two[0].pk, **({"next": target} if where == "form" else {})}
    query = {"next": target} if where == "query" else None

    response = visitor.client.post(CHOOSE, data, secure=True, query_params=query)

    assert response["Location"] == "/oauth/"


def test_a_choice_needs_a_csrf_token(user, two):
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)

    assert client.post(CHOOSE, {"connection": two[0].pk}).status_code == 403
    assert chosen() == []


@pytest.mark.parametrize("pk", ["nonsense", "\x00", "00000000-0000-0000-0000-000000000000"])
def test_an_unknown_account_is_not_found(pk, visitor, two):
    assert visitor.post(CHOOSE, {"connection": pk}).status_code == 404
    assert chosen() == []


def test_another_user_s_account_is_not_found(other_user, two, make_connection):
    stranger = Visitor(other_user)
    make_connection(owner=other_user)

    assert "ada" not in stranger.get(CHOOSE).content.decode()
    assert stranger.post(CHOOSE, {"connection": two[0].pk}).status_code == 404
    assert chosen() == []


def test_an_account_of_another_provider_is_not_found(
    visitor, two, scripted_entry, configure, make_connection
):
    configure(PROVIDERS=dict.fromkeys(("scripted", "another"), scripted_entry))
    elsewhere = make_connection("another")

    assert visitor.post(CHOOSE, {"connection": elsewhere.pk}).status_code == 404
    assert chosen() == []


def test_sending_the_form_without_a_choice_says_what_is_missing(visitor, two):
    response = visitor.post(CHOOSE, {"next": "/x/"})

    assert response.status_code == 400
    assert 'role="alert"' in response.content.decode()
    assert 'name="next" value="/x/"' in response.content.decode()


def test_without_an_account_the_page_leads_to_connect_one(visitor, scripted_provider):
    location = visitor.get(CHOOSE, {"next": "/x/"})["Location"]

    assert location.startswith("/oauth/scripted/connect/")
    assert query_of(location)["next"] == "/x/"


def test_who_may_not_manage_cannot_choose(visitor, scripted_provider, make_connection, configure):
    configure(OWNER=lambda request: Owner("org:1", label="Acme", may_manage=False))
    connection = make_connection(owner="org:1")

    for response in (visitor.get(CHOOSE), visitor.post(CHOOSE, {"connection": connection.pk})):
        assert response.status_code == 403
        assert "Ask someone who manages Acme." in response.content.decode()
    assert chosen() == []


def test_accounts_of_a_provider_that_is_no_longer_offered_can_be_chosen(visitor, two, configure):
    configure(PROVIDERS={})

    assert visitor.get(CHOOSE).status_code == 200
    assert visitor.post(CHOOSE, {"connection": two[0].pk}).status_code == 302


# --- asked for JSON -------------------------------------------------------------------------------

JSON = {"Accept": "application/json"}


def test_asked_for_json_the_accounts_are_listed_with_the_one_in_use(visitor, two):
    listed = [{"id": str(row.pk), "account": row.account_label, "account_id": row.account_id} for row in two]
    assert visitor.get(CHOOSE, headers=JSON).json() == {"accounts": listed, "connection": None}

    visitor.post(CHOOSE, {"connection": two[1].pk}, headers=JSON)

    assert visitor.get(CHOOSE, headers=JSON).json() == {"accounts": listed, "connection": str(two[1].pk)}


def test_asked_for_json_an_owner_without_accounts_gets_an_empty_list(visitor, scripted_provider):
    assert visitor.get(CHOOSE, headers=JSON).json() == {"accounts": [], "connection": None}


def test_asked_for_json_a_choice_leaves_no_message(visitor, two):
    visitor.post(CHOOSE, {"connection": two[0].pk}, headers=JSON)

    assert chosen() == [two[0]]
    assert b"is used from now on" not in visitor.get("/oauth/").content


def test_asked_for_json_a_choice_of_nothing_is_400(visitor, two):
    response = visitor.post(CHOOSE, headers=JSON)

    found = response.json()
    assert (response.status_code, found["error"], found["message"]) == (
        400,
        "not_chosen",
        "Choose an account.",
    )
    assert len(found["accounts"]) == 2


def test_asked_for_json_an_account_that_cannot_be_chosen_is_404(visitor, other_user, two, make_connection):
    others = make_connection(owner=other_user)
    for value in (others.pk, "nonsense"):
        response = visitor.post(CHOOSE, {"connection": value}, headers=JSON)
        assert (response.status_code, response.json()["error"]) == (404, "unknown_connection")
    assert chosen() == []


def test_asked_for_json_who_may_not_manage_or_is_not_signed_in_gets_json(visitor, two, configure):
    stranger = Visitor().get(CHOOSE, headers=JSON)
    assert (stranger.status_code, stranger.json()["error"]) == (401, "not_authenticated")
    configure(OWNER=lambda request: Owner("org:1", may_manage=False))

    response = visitor.post(CHOOSE, {"connection": two[0].pk}, headers=JSON)

    assert (response.status_code, response.json()["error"]) == (403, "may_not_manage")
