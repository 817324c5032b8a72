from __future__ import annotations

import httpx
import httpx2
import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured

from oauth_connect.conf import conf
from oauth_connect.contrib.httpx import aclient, client
from oauth_connect.errors import AmbiguousConnection, ProviderMisconfigured, ReauthorizationRequired
from oauth_connect.flows import access_token_for, connection_for, session_for
from oauth_connect.models import Connection, Owner
from tests.contrib.test_httpx import run
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


def test_where_no_page_connects_an_account_the_error_leads_to_none(
    user, configure, scripted_entry, scripted_provider
):
    configure(PROVIDERS={"scripted": {**scripted_entry, "grant_types": ["client_credentials"]}})

    with pytest.raises(ReauthorizationRequired, match=r"machine_session\(\)") as required:
        session_for(user, "scripted")
    assert (required.value.reason, required.value.connect_url) == ("not_connected", "")


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
    assert "lacks oauth_connect.urls" in str(required.value)


def test_owner_and_provider_that_changed_places_are_named(user, scripted_provider):
    with pytest.raises(TypeError, match="A provider is given by its name"):
        session_for("scripted", user)


def test_one_string_for_scopes_is_refused(user, scripted_provider):
    with pytest.raises(TypeError, match="pass a list"):
        session_for(user, "scripted", scopes="read")


def test_scopes_are_asked_about_one_by_one(make_connection, scripted_provider):
    with pytest.raises(TypeError, match="each scope as an argument"):
        make_connection().has_scopes(["read"])


# --- an organisation moves to another host ------------------------------------------------------


@pytest.fixture
def organisation(scripted, scripted_entry, configure, make_connection):
    """A connection at an instance that the token response names. Its tokens are refused there from now on."""
    variables = {"instance": {"source": "token_response", "field": "instance", "choices": ["old", "new"]}}
    entry = {**scripted_entry, "api_base_url": f"{scripted.url}/{{instance}}/", "variables": variables}
    configure(PROVIDERS={"scripted": entry})
    token = {"access_token": "a", "refresh_token": "r", "token_type": "Bearer", "instance": "old"}
    connection = make_connection(response=token, variables={"instance": "old"})
    scripted.on("/token", Answer(body={**token, "access_token": "b", "instance": "new"}))
    scripted.on("/old/x", Answer(401))
    scripted.on("/new/x", Answer(body={}))
    return connection


def by_requests(connection):
    with connection.session() as http:
        return [http.get("x").status_code for _ in range(2)]


def by_httpx(connection, client_class=httpx.Client):
    with client(connection, client_class=client_class) as http:
        return [http.get("x").status_code for _ in range(2)]


def by_httpx2(connection):
    return by_httpx(connection, httpx2.Client)


def by_async_httpx(connection):
    async def calls():
        async with await aclient(connection) as http:
            return [(await http.get("x")).status_code for _ in range(2)]

    return run(calls())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("loader", [False, True])
@pytest.mark.parametrize("calls", [by_requests, by_httpx, by_httpx2, by_async_httpx])
def test_the_call_that_learns_of_a_move_follows_it(calls, loader, organisation, scripted, configure):
    if loader:
        [(_, entry)] = conf.mapping["PROVIDERS"].items()
        configure(PROVIDER_LOADER=lambda slug, owner: entry, DISCOVERY_PRIVATE_HOSTS=["127.0.0.1"])

    assert calls(organisation) == [200, 200]

    paths = [one.path for one in scripted.requests]
    assert paths == ["/old/x", "/token", "/new/x", "/new/x"]
    assert organisation.variables == {"instance": "new"}


@pytest.fixture(params=["Authorization", "X-Token"])
def in_headers(request, organisation, configure):
    """Let the entry name the instance in headers too, and the token go in one of these headers."""
    entry = conf.mapping["PROVIDERS"]["scripted"]
    headers = {"X-Instance": "{instance}", "X-Own": "{instance}", "X-Site": "key"}
    api = {"headers": headers, "header": request.param}
    configure(PROVIDERS={"scripted": {**entry, "api": api}})
    return organisation


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("calls", [by_requests, by_httpx, by_httpx2, by_async_httpx])
def test_the_headers_of_the_entry_follow_a_move(calls, in_headers, scripted):
    assert calls(in_headers) == [200, 200]
    sent = [one.headers for one in scripted.requests if one.path != "/token"]
    assert [one["X-Instance"] for one in sent] == ["old", "new", "new"]
    assert {one["X-Site"] for one in sent} == {"key"}
    assert {one["Host"] for one in sent} == {scripted.url.removeprefix("http://")}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("send", [lambda row: row.session(), client], ids=["requests", "httpx"])
def test_a_header_of_the_callers_own_does_not_follow_a_move(send, in_headers, scripted):
    with send(in_headers) as http:
        http.get("x", headers={"X-Own": "mine"})
        http.headers["X-Own"] = "also mine"
        http.get("x")
    sent = [one.headers["X-Own"] for one in scripted.requests if one.path != "/token"]
    assert sent == ["mine", "mine", "also mine"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("send", [lambda row: row.session(), client], ids=["requests", "httpx"])
def test_a_header_without_a_value_is_sent_once_it_has_one(
    send, scripted, scripted_entry, configure, make_connection
):
    variables = {"tenant": {"source": "token_response", "field": "tenant", "pattern": "[a-z]+"}}
    api = {"headers": {"X-Tenant": "{tenant}"}}
    configure(PROVIDERS={"scripted": {**scripted_entry, "variables": variables, "api": api}})
    token = {"access_token": "a", "refresh_token": "r", "token_type": "Bearer"}
    connection = make_connection(response=token)
    scripted.on("/token", Answer(body={**token, "access_token": "b", "tenant": "mill"}))
    with send(connection) as http:
        http.get("x")
        connection.refresh()
        http.get("x")
    sent = [one.headers.get("X-Tenant") for one in scripted.requests if one.path != "/token"]
    assert sent == [None, "mill"]


def test_a_token_that_expired_before_the_move_is_not_sent_to_the_old_host(organisation, scripted):
    with organisation.session() as http:
        organisation.refresh()
        assert http.get("x").status_code == 200
    assert [one.path for one in scripted.requests] == ["/token", "/new/x"]
