from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured

from oauth_connect.errors import AmbiguousConnection, ProviderMisconfigured, ReauthorizationRequired
from oauth_connect.flows import access_token_for, connection_for, session_for
from oauth_connect.models import Connection, Owner
from tests.servers.scripted import Answer
from tests.support.visitor import query_of

pytestmark = pytest.mark.django_db


def answer(**fields):
    return {"access_token": "access", "token_type": "Bearer", **fields}


def test_a_user_s_only_connection_is_the_one_that_is_called_with(
    user, scripted, scripted_provider, make_connection
):
    make_connection()
    scripted.on("/api/repos", Answer(body=[1]))

    assert session_for(user, "scripted").get("repos").json() == [1]
    assert access_token_for(user, "scripted") == "access-0"


def test_an_owner_and_an_owner_s_key_name_the_same_connection(user, scripted_provider, make_connection):
    connection = make_connection(owner=Owner("org:1"))

    assert connection_for(Owner("org:1"), "scripted") == connection_for("org:1", "scripted") == connection
    with pytest.raises(ReauthorizationRequired):
        connection_for(user, "scripted")


@pytest.mark.compliance("D57")
def test_a_user_s_connection_is_not_used_for_another_user(other_user, scripted_provider, make_connection):
    make_connection()

    with pytest.raises(ReauthorizationRequired) as required:
        session_for(other_user, "scripted")
    assert (required.value.reason, required.value.connection) == ("not_connected", None)


@pytest.mark.compliance("D57", "CVE-2024-51987")
def test_interleaved_calls_each_carry_their_own_token(
    user, other_user, scripted, scripted_provider, make_connection
):
    people = {"one": user, "other": other_user}
    for name, person in people.items():
        make_connection(owner=person, account_id="shared", response=answer(access_token=f"{name}-token"))
    scripted.on("/api/me", Answer(body={}))

    for name, person in [*people.items()] * 50:
        session_for(person, "scripted").get("me", params={"who": name})

    sent = {(call.query["who"], call.headers["Authorization"]) for call in scripted.asked("/api/me")}
    assert sent == {("one", "Bearer one-token"), ("other", "Bearer other-token")}


def test_no_visitor_has_connections_without_signing_in(scripted_provider):
    with pytest.raises(TypeError, match="saved user"):
        session_for(AnonymousUser(), "scripted")


def test_without_a_connection_the_error_leads_to_the_page_that_makes_one(user, scripted_provider):
    with pytest.raises(ReauthorizationRequired) as required:
        session_for(user, "scripted")

    assert required.value.connect_url == "/oauth/scripted/connect/"


def test_an_unknown_provider_is_the_site_s_mistake(user, scripted_provider):
    with pytest.raises(ImproperlyConfigured, match=r"No provider 'nowhere'.*Add it, or correct the name"):
        session_for(user, "nowhere")


@pytest.mark.compliance("D61")
def test_a_disabled_provider_gives_no_session_and_keeps_its_rows(
    user, scripted, scripted_entry, scripted_provider, make_connection, configure
):
    connection = make_connection()
    configure(PROVIDERS={"scripted": {**scripted_entry, "enabled": False}})

    with pytest.raises(ProviderMisconfigured, match="disabled"):
        session_for(user, "scripted")
    with pytest.raises(ProviderMisconfigured, match="disabled"):
        connection.refresh()
    assert scripted.requests == []
    assert Connection.objects.get().status == "active"


def test_several_accounts_are_distinguished_by_their_id(user, scripted_provider, make_connection):
    ada, linus = (make_connection(account_id=account) for account in ("ada", "linus"))

    assert connection_for(user, "scripted", account_id="ada") == ada
    assert connection_for(user, "scripted", account_id="linus") == linus
    with pytest.raises(AmbiguousConnection, match="account_id"):
        session_for(user, "scripted")
    with pytest.raises(ReauthorizationRequired):
        session_for(user, "scripted", account_id="grace")


@pytest.mark.compliance("CVE-2024-32879")
def test_account_ids_differ_by_case(user, scripted_provider, make_connection):
    make_connection(account_id="abc")

    with pytest.raises(ReauthorizationRequired):
        session_for(user, "scripted", account_id="ABC")


def test_what_was_disconnected_is_not_connected(user, scripted_provider, make_connection):
    make_connection().disconnect()

    with pytest.raises(ReauthorizationRequired) as required:
        session_for(user, "scripted")
    assert required.value.reason == "not_connected"


def test_a_dead_connection_leads_back_to_its_own_account(user, scripted, scripted_provider, make_connection):
    connection = make_connection(age=7200)
    scripted.on("/token", Answer(400, {"error": "invalid_grant"}))
    with pytest.raises(ReauthorizationRequired):
        connection.refresh()

    with pytest.raises(ReauthorizationRequired) as required:
        session_for(user, "scripted", scopes=["read"])

    query = query_of(required.value.connect_url)
    assert (required.value.reason, query["connection"]) == ("revoked", str(connection.pk))
    assert "scopes" in query


@pytest.mark.compliance("A17", "A40", "B4")
def test_scopes_that_were_not_granted_are_asked_for_together_with_the_others(
    user, visitor, scripted_entry, make_connection, configure
):
    configure(PROVIDERS={"scripted": {**scripted_entry, "scopes": ["read"]}})
    connection = make_connection(response=answer(scope="read"))
    assert connection_for(user, "scripted", scopes=["read"]) == connection

    with pytest.raises(ReauthorizationRequired) as required:
        session_for(user, "scripted", scopes=["write"])

    assert required.value.reason == "missing_scopes"
    url = visitor.follow(required.value.connect_url)
    assert query_of(url)["scope"].split() == ["read", "write"]


def test_a_site_without_these_pages_gets_the_error_too(user, scripted_provider, settings):
    settings.ROOT_URLCONF = ()

    with pytest.raises(ReauthorizationRequired) as required:
        session_for(user, "scripted")
    assert required.value.connect_url == ""


def test_one_string_for_scopes_is_refused(user, scripted_provider):
    with pytest.raises(TypeError, match="pass a list"):
        session_for(user, "scripted", scopes="read")


def test_scopes_are_asked_about_one_by_one(make_connection, scripted_provider):
    with pytest.raises(TypeError, match="each scope as an argument"):
        make_connection().has_scopes(["read"])
