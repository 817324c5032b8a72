from __future__ import annotations

import uuid

import pytest
from django.test import Client

from oauth_connect.errors import InvalidProvider
from oauth_connect.models import Connection, Owner
from oauth_connect.protocol.provider import Provider
from tests.management.conftest import OTHER_KEY
from tests.servers.scripted import Answer
from tests.support.visitor import Visitor

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def connection(scripted_provider, make_connection):
    return make_connection(account_label="ada@example.com")


@pytest.fixture
def path(connection):
    return f"/oauth/{connection.pk}/disconnect/"


def is_untouched(connection):
    return Connection.objects.get(pk=connection.pk).sealed_token == connection.sealed_token


@pytest.mark.compliance("D16")
def test_get_asks_first_and_changes_nothing(visitor, connection, path, scripted):
    page = visitor.get(path)

    assert b"Disconnect scripted?" in page.content
    assert b"ada@example.com" in page.content
    assert is_untouched(connection)
    assert scripted.requests == []


@pytest.mark.compliance("D16")
def test_post_without_a_csrf_token_changes_nothing(user, connection, path, scripted):
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)

    assert client.post(path).status_code == 403
    assert is_untouched(connection)
    assert scripted.requests == []


@pytest.mark.parametrize("answer", [Answer(200), Answer(503)], ids=["revoked", "not revoked yet"])
def test_post_disconnects_whether_or_not_the_provider_answers(answer, visitor, connection, path, scripted):
    scripted.on("/revoke", answer)

    response = visitor.post(path)

    assert (response.status_code, response["Location"]) == (302, "/oauth/")
    assert Connection.objects.get().sealed_token is None
    assert [request.form["token"] for request in scripted.asked("/revoke")] == ["refresh-0"]
    assert b"ada@example.com is disconnected." in visitor.get("/oauth/").content


@pytest.mark.compliance("A13", "D14")
@pytest.mark.parametrize(("target", "location"), [("/reports/", "/reports/"), ("//evil.test", "/oauth/")])
def test_post_leads_back_within_the_site_only(target, location, visitor, path):
    assert visitor.post(path, {"next": target})["Location"] == location


@pytest.mark.compliance("D17")
@pytest.mark.parametrize("whose", ["another's", "nobody's", "disconnected"])
def test_another_s_connection_is_answered_like_none(whose, visitor, other_user, connection, path):
    if whose == "another's":
        visitor = Visitor(other_user)
    elif whose == "nobody's":
        path = f"/oauth/{uuid.uuid4()}/disconnect/"
    else:
        visitor.post(path)
    missing = visitor.get(f"/oauth/{uuid.uuid4()}/disconnect/")

    for response in (visitor.get(path), visitor.post(path)):
        assert (response.status_code, response.content) == (404, missing.content)
    assert whose == "disconnected" or is_untouched(connection)


def test_who_may_not_manage_is_forbidden_to_disconnect(
    visitor, scripted_provider, make_connection, configure
):
    connection = make_connection(owner=Owner("org:1"))
    configure(OWNER=lambda request: Owner("org:1", may_manage=False))
    path = f"/oauth/{connection.pk}/disconnect/"

    assert visitor.get(path).status_code == visitor.post(path).status_code == 403
    assert is_untouched(connection)


def test_an_account_can_be_connected_again_afterwards(visitor, connection, path, issues, canary):
    visitor.post(path)
    visitor.connect()

    assert Connection.objects.filter(status="active").get().token.access_token == f"{canary}-access"


# --- what stays at the provider -------------------------------------------------------------------


def messages_after(visitor, path) -> bytes:
    visitor.post(path)
    return visitor.get("/oauth/").content


def test_the_page_and_the_message_promise_no_revocation_of_a_token_that_no_key_opens(
    visitor, path, configure, scripted
):
    configure(KEYS=[OTHER_KEY])

    page = visitor.get(path).content.decode()

    assert "because it cannot read the token any more" in page
    assert "in the settings of your account at the provider" in page
    assert "asks the provider to revoke" not in page
    assert b"cannot revoke its access at the provider" in messages_after(visitor, path)
    assert scripted.requests == []


def test_the_page_and_the_message_say_that_the_provider_cannot_revoke(
    visitor, path, configure, scripted_entry
):
    rules = {"style": "none", "page": "https://help.example/withdraw"}
    configure(PROVIDERS={"scripted": {**scripted_entry, "revocation": rules}})

    page = visitor.get(path).content.decode()

    assert "the provider offers no way for that" in page
    assert '<a href="https://help.example/withdraw"' in page
    assert b"Withdraw it in the settings of your account there." in messages_after(visitor, path)


def test_where_no_page_is_known_the_user_s_settings_are_named(visitor, path, configure, scripted_entry):
    configure(PROVIDERS={"scripted": {**scripted_entry, "revocation_endpoint": ""}})
    assert (
        b"Withdraw it yourself, in the settings of your account at the provider." in visitor.get(path).content
    )


def test_the_page_and_the_message_say_what_is_kept(
    visitor, connection, path, make_connection, other_user, scripted
):
    make_connection(account_id=connection.account_id, owner=other_user)

    page = visitor.get(path).content

    assert b"keeps the token, encrypted and unused" in page
    assert b"ada" not in messages_after(visitor, path).partition(b"is disconnected.")[2]
    assert scripted.asked("/revoke") == []


def test_the_message_says_that_the_access_is_still_used(
    visitor, connection, path, make_connection, other_user
):
    make_connection(account_id=connection.account_id, owner=other_user)
    assert b"Another connection uses the same access." in messages_after(visitor, path)


def test_only_an_https_page_can_be_named(scripted_entry):
    rules = {"style": "none", "page": "javascript:alert(1)"}
    with pytest.raises(InvalidProvider, match=r"scripted\.revocation\.page: must be an https URL"):
        Provider.from_mapping("scripted", {**scripted_entry, "revocation": rules})
