"""The JSON API: what the list says, what a start and a disconnect do, and what no other site can do."""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from datetime import datetime
from functools import partial

import hypothesis
import pytest
from django.contrib.sessions.models import Session
from django.http import Http404, HttpResponse
from django.test import Client, RequestFactory
from django.urls import include, path
from django.utils import translation
from hypothesis import strategies as st

from oauth_connect.errors import ReauthorizationRequired
from oauth_connect.flows.choice import choose
from oauth_connect.flows.paths import connect_path
from oauth_connect.flows.pending import SESSION_KEY
from oauth_connect.models import Connection, Owner
from oauth_connect.models.lifecycle import disconnect as lifecycle
from oauth_connect.views.api import TEXT
from oauth_connect.views.body import InvalidBody, given
from tests.servers.scripted import Answer
from tests.support.visitor import Visitor, query_of, state_of

pytestmark = pytest.mark.django_db

API = "/oauth/api/"
CONNECT = "/oauth/api/scripted/connect/"
NOBODY = uuid.UUID(int=0)  # the id of no connection
HOSTILE = ["//evil.test", "https://evil.test/", "/\\evil.test", "javascript:alert(1)", "/a\r\nb", "\ud800"]
JSON = "application/json"
MAY_NOT = "Other people connect, choose and disconnect these accounts."
REFUSED = Answer(400, {"error": "invalid_grant"})


@pytest.fixture
def start(visitor):
    """Start a flow by JSON."""

    def start(body=None, path=CONNECT, **options):
        content = json.dumps({} if body is None else body)
        return visitor.client.post(path, content, content_type=JSON, secure=True, **options)

    return start


@pytest.fixture
def delete(visitor):
    return lambda pk, **options: visitor.client.delete(f"{API}{pk}/", secure=True, **options)


@pytest.fixture
def listed(visitor):
    return lambda: visitor.get(API).json()


@pytest.fixture
def shop(scripted_entry, configure):
    """Let the user enter a shop."""
    shop = {
        "source": "user",
        "label": "Shop",
        "pattern": r"[a-z-]+\.shops\.example",
        "example": "a.shops.example",
    }
    urls = {"api_base_url": "https://{shop}/api/"}
    configure(PROVIDERS={"scripted": {**scripted_entry, **urls, "variables": {"shop": shop}}})


def urlconf(*patterns):
    return type("Urls", (), {"urlpatterns": list(patterns)})


# --- the list -------------------------------------------------------------------------------------


def test_the_list_names_connections_and_providers(
    visitor, listed, scripted_entry, scripted_provider, make_connection, configure
):
    configure(PROVIDERS={"scripted": {**scripted_entry, "name": "Codeyard", "scopes": ["read"]}})
    response = {"access_token": "a", "token_type": "Bearer", "scope": "read"}
    made = make_connection(account_label="ada@example.com", response=response)

    found = listed()

    (connection,) = found["connections"]
    assert datetime.fromisoformat(connection.pop("created_at")) is not None
    assert connection == {
        "id": str(made.pk),
        "provider": "scripted",
        "provider_name": "Codeyard",
        "account": "ada@example.com",
        "account_id": "1",
        "scopes": ["read"],
        "status": "active",
        "health": "active",
        "health_text": "active",
        "needs": [],
        "missing_scopes": [],
        "is_used": False,
        "reconnect_before": None,
        "refreshed_at": None,
        "connect": f"{CONNECT}?connection={made.pk}",
        "disconnect": f"{API}{made.pk}/",
        "connect_url": f"/oauth/scripted/connect/?connection={made.pk}",
        "choose_url": None,
        "site_url": None,
    }
    assert found["providers"] == [
        {
            "slug": "scripted",
            "name": "Codeyard",
            "one_account": False,
            "scopes": ["read"],
            "variables": [],
            "connected": 1,
            "connect": CONNECT,
            "connect_url": "/oauth/scripted/connect/",
        }
    ]
    assert (found["owner"], found["may_manage"]) == ("grace", True)


def test_times_are_in_iso_8601(listed, scripted, scripted_provider, make_connection):
    connection = make_connection()
    scripted.on("/token", Answer(body={"access_token": "b", "token_type": "Bearer", "expires_in": 60}))
    connection.refresh()

    (found,) = listed()["connections"]

    connection.refresh_from_db()
    refreshed = datetime.fromisoformat(found["refreshed_at"])
    assert abs(refreshed - connection.last_refreshed_at).total_seconds() < 0.001


def test_the_list_says_what_a_user_must_enter(listed, shop):
    (provider,) = listed()["providers"]

    assert provider["variables"] == [
        {
            "name": "shop",
            "label": "Shop",
            "help": "For example a.shops.example",
            "required": True,
            "default": "",
            "pattern": r"[a-z-]+\.shops\.example",
            "choices": [],
        }
    ]


def test_a_connection_that_has_ended_needs_to_be_connected_again(
    listed, scripted, scripted_provider, make_connection
):
    connection = make_connection()
    scripted.on("/token", REFUSED)
    with pytest.raises(ReauthorizationRequired):
        connection.refresh()

    (found,) = listed()["connections"]

    assert found["status"] == found["health"] == "reauthorization_required"
    assert found["health_text"] == "must be connected again"
    assert found["needs"] == ["reconnect"]


def test_an_access_that_no_refresh_prolongs_is_to_be_connected_again_soon(
    listed, scripted_entry, configure, make_connection
):
    configure(PROVIDERS={"scripted": {**scripted_entry, "refresh": {"absolute_seconds": 20 * 86400}}})
    make_connection()

    (found,) = listed()["connections"]

    assert found["needs"] == ["reconnect_soon"]
    assert datetime.fromisoformat(found["reconnect_before"]) > datetime.fromisoformat(found["created_at"])


def test_scopes_that_the_settings_ask_for_in_addition_are_missing(
    listed, scripted_entry, scripted_provider, make_connection, configure
):
    response = {"access_token": "a", "token_type": "Bearer", "scope": "read"}
    make_connection(response=response)
    configure(PROVIDERS={"scripted": {**scripted_entry, "scopes": ["read", "write"]}})

    (found,) = listed()["connections"]

    assert (found["needs"], found["missing_scopes"]) == (["scopes"], ["write"])


def test_a_site_that_is_not_chosen_is_needed(listed, scripted, scripted_entry, configure, make_connection):
    sites = {
        "accounts": {"endpoint": f"{scripted.url}/sites", "variable": "site"},
        "variables": {"site": {"source": "accounts", "pattern": "[a-z0-9-]+"}},
    }
    configure(PROVIDERS={"scripted": {**scripted_entry, **sites}})
    made = make_connection(variables={"site": ""})

    (found,) = listed()["connections"]

    assert (found["needs"], found["site_url"]) == (["choose_site"], f"/oauth/{made.pk}/site/")


def test_of_several_accounts_one_is_to_be_chosen_and_then_is_used(
    listed, user, scripted_provider, make_connection
):
    first, second = make_connection(account_label="ada"), make_connection(account_label="linus")
    for found in listed()["connections"]:
        assert (found["needs"], found["is_used"]) == (["choose_account"], False)
        assert found["choose_url"] == "/oauth/scripted/accounts/"

    choose(Owner.of(user), "scripted", second.pk)

    used = {found["id"]: (found["needs"], found["is_used"]) for found in listed()["connections"]}
    assert used == {str(first.pk): ([], False), str(second.pk): ([], True)}


def test_an_account_of_a_provider_that_is_gone_can_be_disconnected_alone(
    listed, scripted_provider, make_connection, configure
):
    make_connection()
    configure(PROVIDERS={})

    found = listed()

    (connection,) = found["connections"]
    assert (connection["status"], connection["health"]) == ("active", "not_offered")
    assert connection["health_text"] == "No longer offered by this site"
    assert (connection["connect"], connection["connect_url"], connection["needs"]) == (None, None, [])
    assert connection["disconnect"]
    assert found["providers"] == []


def test_who_may_not_manage_reads_and_gets_no_address_that_changes(
    listed, scripted_provider, make_connection, configure
):
    configure(OWNER=lambda request: Owner("org:1", label="Acme", may_manage=False))
    make_connection(owner="org:1", account_label="ada")
    make_connection(owner="org:1", account_label="linus")

    found = listed()

    assert (found["owner"], found["may_manage"], found["providers"]) == ("Acme", False, [])
    for connection in found["connections"]:
        addresses = ("connect", "disconnect", "connect_url", "choose_url", "site_url")
        assert {connection[name] for name in addresses} == {None}


@pytest.mark.compliance("D57")
def test_no_user_reads_of_another_s_accounts(other_user, scripted_provider, make_connection):
    make_connection(account_label="ada@example.com")

    assert Visitor(other_user).get(API).json()["connections"] == []


def test_what_was_disconnected_is_not_listed(listed, scripted_provider, make_connection):
    make_connection().disconnect()

    assert listed()["connections"] == []
    assert listed()["providers"][0]["connected"] == 0


@pytest.mark.compliance("D43")
def test_the_list_needs_no_key_because_it_decrypts_nothing(
    listed, scripted_provider, make_connection, configure
):
    make_connection()
    configure(KEYS=["A" * 43 + "="])

    assert len(listed()["connections"]) == 1


@pytest.mark.parametrize("loaded", [False, True])
def test_the_list_costs_as_much_for_many_accounts_as_for_one(
    loaded,
    visitor,
    scripted_entry,
    scripted_provider,
    make_connection,
    configure,
    django_assert_max_num_queries,
):
    for _ in range(10):
        make_connection()
    asked = []

    def load(slug, owner):
        asked.append(slug)
        return scripted_entry

    if loaded:
        configure(PROVIDERS={}, PROVIDER_LOADER=load)

    with django_assert_max_num_queries(3):  # the session, the user, the connections
        assert len(visitor.get(API).json()["connections"]) == 10
    assert len(asked) < 5


def test_a_get_and_a_head_change_nothing(visitor, scripted, scripted_provider, make_connection):
    made = make_connection()
    before = Connection.objects.values().get()

    for response in (visitor.get(API), visitor.client.head(API, secure=True)):
        assert response.status_code == 200
        assert "csrftoken" in response.cookies
    for address in (CONNECT, f"{API}{made.pk}/"):
        assert visitor.get(address).status_code == 405

    assert Connection.objects.values().get() == before
    assert SESSION_KEY not in visitor.session
    assert scripted.requests == []


@pytest.mark.compliance("B2", "B3")
def test_no_answer_has_a_token_a_secret_or_a_sealed_value(
    visitor, start, delete, canary, scripted, scripted_provider, issues
):
    visitor.connect()
    connection = Connection.objects.get()
    answers = [visitor.get(API), start(), start({"connection": str(connection.pk)}), delete(connection.pk)]
    sealed = str(Connection.objects.values_list("sealed_token", flat=True).get() or canary)

    assert [answer.status_code for answer in answers] == [200] * 4
    for answer in answers:
        content = answer.content.decode()
        assert not any(secret in content for secret in (canary, sealed, '"secret"', 'client_id":'))


def test_the_answers_are_in_the_user_s_language(visitor, scripted_provider, make_connection, settings):
    make_connection()
    settings.LANGUAGE_CODE = "de"
    with translation.override("de"):
        (found,) = visitor.get(API).json()["connections"]
        refused = visitor.client.delete(f"{API}{uuid.uuid4()}/", secure=True).json()

    assert found["health_text"] == "Aktiv"
    assert refused["message"].startswith("Es gibt keine solche Verbindung")


@pytest.mark.parametrize("code", list(TEXT))
def test_each_sentence_is_translated(code):
    with translation.override("en"):
        english = str(TEXT[code])
    with translation.override("de"):
        assert str(TEXT[code]) != english


# --- connecting -----------------------------------------------------------------------------------


def test_a_flow_that_was_started_by_json_ends(visitor, start, scripted, scripted_provider, issues):
    response = start({"next": "/reports/?a=1"})

    url = response.json()["authorization_url"]
    assert url.startswith(f"{scripted.url}/authorize?")
    back = visitor.come_back(state=state_of(url), code="code")
    assert (back.status_code, back["Location"]) == (302, "/reports/?a=1")
    assert Connection.objects.get().status == "active"


def test_a_start_sets_the_cookie_of_its_flow(start, scripted_provider):
    """A slow request of another tab may write an old copy of the session back."""
    cookie = start().cookies["oauth_connect_flow"]

    assert cookie["path"] == "/oauth/scripted/callback/"
    assert cookie["httponly"]


@pytest.mark.parametrize("form", ["urlencoded", "multipart"])
def test_a_form_starts_a_flow_as_well(form, visitor, shop, issues):
    data = {"next": "/reports/", "shop": "https://a.shops.example/admin"}
    if form == "urlencoded":
        content = "next=/reports/&shop=https://a.shops.example/admin"
        response = visitor.client.post(
            CONNECT, content, content_type="application/x-www-form-urlencoded", secure=True
        )
    else:
        response = visitor.post(CONNECT, data)

    state = state_of(response.json()["authorization_url"])
    assert visitor.come_back(state=state, code="code")["Location"] == "/reports/"
    assert Connection.objects.get().variables == {"shop": "a.shops.example"}


@pytest.mark.parametrize("value", ["", "nonsense", "https://evil.test/a.shops.example"])
def test_a_wrong_variable_is_named_with_what_would_be_right(value, visitor, start, shop):
    response = start({"variables": {"shop": value}})

    assert response.status_code == 400
    assert response.json() == {
        "error": "invalid_variables",
        "message": "Some values are missing or wrong.",
        "errors": {"scripted.variables.shop": ["Enter it like a.shops.example."]},
    }
    assert SESSION_KEY not in visitor.session


@pytest.mark.parametrize("where", ["body", "url"])
def test_a_connection_is_connected_again_with_the_scopes_that_it_had(
    where, start, scripted_provider, make_connection
):
    response = {"access_token": "a", "token_type": "Bearer", "scope": "read"}
    made = make_connection(response=response)
    pk = str(made.pk)

    answer = start({"connection": pk}) if where == "body" else start(path=f"{CONNECT}?connection={pk}")

    assert query_of(answer.json()["authorization_url"])["scope"] == "read"


def test_the_address_that_the_list_gives_connects_the_account_again(
    visitor, listed, start, scripted, scripted_provider, make_connection, issues
):
    connection = make_connection(account_id="")
    scripted.on("/token", REFUSED)
    with pytest.raises(ReauthorizationRequired):
        connection.refresh()
    issues()

    url = start(path=listed()["connections"][0]["connect"]).json()["authorization_url"]
    visitor.come_back(state=state_of(url), code="code")

    assert Connection.objects.get().status == "active"


@pytest.mark.parametrize("where", ["body", "url"])
def test_signed_scopes_are_asked_for_in_addition(where, user, start, scripted_provider):
    query = query_of(connect_path("scripted", scopes=["admin"], owner=user))

    answer = start(query) if where == "body" else start(path=f"{CONNECT}?scopes={query['scopes']}")

    assert query_of(answer.json()["authorization_url"])["scope"] == "admin"


def test_scopes_that_are_not_signed_for_this_user_are_not_asked_for(other_user, start, scripted_provider):
    signed = query_of(connect_path("scripted", scopes=["admin"], owner=other_user))["scopes"]
    for value in ("admin", signed, "\ud800", ""):
        url = start({"scopes": value}).json()["authorization_url"]
        assert "scope" not in query_of(url)


def test_the_next_page_may_be_in_the_url_and_the_body_comes_first(visitor, start, scripted_provider, issues):
    for body, expected in (({}, "/a/"), ({"next": "/b/"}, "/b/")):
        url = start(body, path=f"{CONNECT}?next=/a/").json()["authorization_url"]
        assert visitor.come_back(state=state_of(url), code="code")["Location"] == expected


@pytest.mark.compliance("A13", "D14", "CVE-2022-31093")
@pytest.mark.parametrize("target", HOSTILE)
def test_the_next_page_is_one_of_this_site(target, visitor, start, scripted_provider, issues):
    url = start({"next": target}).json()["authorization_url"]

    back = visitor.come_back(state=state_of(url), code="code")

    assert (back.status_code, back["Location"]) == (302, "/oauth/")


@pytest.mark.compliance("D57")
def test_another_owner_s_connection_is_unknown(other_user, start, delete, scripted_provider, make_connection):
    others = make_connection(owner=other_user)
    unknown = (start({"connection": str(uuid.uuid4())}).json(), delete(uuid.uuid4()).json())

    answers = start({"connection": str(others.pk)}), delete(others.pk)

    assert [answer.status_code for answer in answers] == [404, 404]
    assert tuple(answer.json() for answer in answers) == unknown
    others.refresh_from_db()
    assert others.status == "active"


@pytest.mark.compliance("Nango")
def test_whose_a_connection_is_comes_from_the_request_alone(
    visitor, user, other_user, start, scripted_provider, issues
):
    body = {"user": str(other_user.pk), "owner": f"user:{other_user.pk}", "account_id": "7"}
    url = start({**body, "variables": body}).json()["authorization_url"]
    visitor.come_back(state=state_of(url), code="code")

    assert (Connection.objects.get().user, Connection.objects.get().account_id) == (user, "")


def test_a_default_is_for_forms_and_nothing_is_filled_in(listed, start, scripted_entry, configure):
    region = {"source": "user", "choices": ["eu", "us"], "default": "us"}
    urls = {"api_base_url": "https://{region}.test/", "api_hosts": ["{region}.test"]}
    configure(PROVIDERS={"scripted": {**scripted_entry, **urls, "variables": {"region": region}}})

    (asked,) = listed()["providers"][0]["variables"]

    assert (asked["default"], asked["choices"], asked["required"]) == ("us", ["eu", "us"], True)
    for body, status in (
        ({}, 400),
        ({"variables": {"region": "asia"}}, 400),
        ({"variables": {"region": "us"}}, 200),
    ):
        assert start(body).status_code == status


BODIES = {
    "not JSON": "{",
    "not UTF-8": b'"\xff"',
    "deep": "[" * 100_000,
    "a list": "[]",
    "a text": '"next"',
    "null": "null",
    "a number": "9" * 5000,
    "next": '{"next": 1}',
    "scopes": '{"scopes": ["admin"]}',
    "connection": '{"connection": {}}',
    "variables": '{"variables": []}',
    "variable": '{"variables": {"shop": 1}}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=list(BODIES))
def test_a_body_of_another_form_is_refused_with_a_sentence(body, visitor, shop):
    response = visitor.client.post(CONNECT, body, content_type=JSON, secure=True)

    assert (response.status_code, response.json()["error"]) == (400, "invalid_body")
    assert response.json()["message"].endswith(".")
    assert SESSION_KEY not in visitor.session


@pytest.mark.parametrize("content_type", [JSON, "multipart/form-data; boundary=x"])
def test_a_body_that_is_too_large_is_refused(content_type, visitor, scripted_provider, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    body = '--x\r\nContent-Disposition: form-data; name="next"\r\n\r\n' + "a" * 200 + "\r\n--x--\r\n"

    response = visitor.client.post(CONNECT, body, content_type=content_type, secure=True)

    assert (response.status_code, response.json()["error"]) == (400, "invalid_body")


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", "text/html", ""])
def test_what_another_site_s_form_can_send_is_not_taken_for_json(content_type, visitor, scripted_provider):
    response = visitor.client.post(CONNECT, '{"next": "/"}', content_type=content_type, secure=True)

    assert (response.status_code, response.json()["error"]) == (400, "invalid_body")


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "application/x-www-form-urlencoded; charset=utf-16"]
)
def test_a_form_that_is_none_is_refused(content_type, visitor, scripted_provider):
    response = visitor.client.post(CONNECT, "next=/", content_type=content_type, secure=True)

    assert (response.status_code, response.json()["error"]) == (400, "invalid_body")


VALUES = st.none() | st.booleans() | st.integers() | st.text()
NAMES = st.sampled_from(["next", "scopes", "connection", "variables", "other"])


@hypothesis.given(st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner)))
def test_each_json_is_read_as_texts_or_refused(document):
    request = RequestFactory().post("/", json.dumps(document), content_type=JSON)
    with suppress(InvalidBody):
        found = given(request)
        assert all(isinstance(one, str) for one in (*found.parameters.values(), *found.variables.values()))


@pytest.mark.parametrize("slug", ["nowhere", "off", "machine", "api"])
def test_a_provider_that_nobody_connects_is_unknown(slug, start, scripted_entry, configure):
    entries = {
        "off": {**scripted_entry, "enabled": False},
        "machine": {**scripted_entry, "authorization_endpoint": ""},
    }
    configure(PROVIDERS=entries)

    response = start(path=f"/oauth/api/{slug}/connect/")

    assert (response.status_code, response.json()["error"]) == (404, "unknown_provider")


def test_a_loader_s_provider_named_api_is_not_offered(start, listed, visitor, scripted_entry, configure):
    configure(PROVIDERS={"api": scripted_entry}, PROVIDER_LOADER=lambda slug, owner: scripted_entry)

    assert listed()["providers"] == []
    assert start(path="/oauth/api/api/connect/").status_code == 404
    assert b"/api/connect/" not in visitor.get("/oauth/").content
    assert visitor.get("/oauth/api/connect/").json()["error"] == "not_found"


def test_an_organisation_owns_what_is_connected(visitor, user, start, scripted_provider, issues, configure):
    configure(OWNER=lambda request: Owner("org:1", label="The organisation"))

    visitor.come_back(state=state_of(start().json()["authorization_url"]), code="code")

    connection = Connection.objects.get()
    assert (connection.owner, connection.user, connection.connected_by) == ("org:1", None, user)


def test_who_may_not_manage_changes_nothing_and_reads_whom_to_ask(
    visitor, start, delete, scripted_provider, make_connection, configure
):
    made = make_connection(owner="org:1")
    configure(OWNER=lambda request: Owner("org:1", may_manage=False, contact="Ada <it@acme.example>"))

    for response in (start(), delete(made.pk)):
        assert response.status_code == 403
        assert response.json() == {
            "error": "may_not_manage",
            "message": f"{MAY_NOT} Ask Ada <it@acme.example>.",
        }
    assert SESSION_KEY not in visitor.session
    assert Connection.objects.get().status == "active"


@pytest.mark.parametrize("error", [Http404, PermissionError])
def test_an_error_of_the_site_s_own_code(error, visitor, scripted_provider, configure):
    """Its 404 is one. Any other passes, for the site's reports of errors."""

    def owner(request):
        raise error

    configure(OWNER=owner)
    if error is PermissionError:
        with pytest.raises(PermissionError):
            visitor.get(API)
    else:
        assert visitor.get(API).json()["error"] == "not_found"


# --- disconnecting --------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_delete_disconnects_and_revokes(delete, user, scripted, scripted_provider, make_connection):
    scripted.on("/revoke", Answer())
    made = make_connection(account_label="ada@example.com")

    response = delete(made.pk)

    assert (response.status_code, response.json()) == (
        200,
        {"disconnected": True, "at_provider": "revoked", "message": "ada@example.com is disconnected."},
    )
    made.refresh_from_db()
    assert (made.status, made.sealed_token) == ("revoked", None)
    assert [call.form["token"] for call in scripted.asked("/revoke")] == ["refresh-0"]
    assert delete(made.pk).json()["error"] == "unknown_connection", "a second time"


def test_a_delete_leaves_no_message_for_the_next_page(visitor, delete, scripted_provider, make_connection):
    delete(make_connection(account_label="ada@example.com").pk)

    assert b"is disconnected" not in visitor.get("/oauth/").content


def test_a_delete_says_what_stays_at_the_provider(
    delete, user, scripted_entry, scripted_provider, make_connection, configure, other_user
):
    configure(PROVIDERS={"scripted": {**scripted_entry, "revocation_endpoint": ""}})

    found = delete(make_connection().pk).json()

    assert found["at_provider"] == "unsupported"
    assert "Withdraw it in the settings of your account there." in found["message"]


def test_a_token_that_no_key_opens_is_not_said_to_be_revoked(
    visitor, delete, scripted, scripted_provider, make_connection, configure
):
    """The user must withdraw the access at the provider, because this site cannot."""
    first, second = make_connection(), make_connection(account_id="2")
    configure(KEYS=["A" * 43 + "="])

    found = delete(first.pk).json()
    page = visitor.client.post(f"/oauth/{second.pk}/disconnect/", secure=True, follow=True)

    assert (found["disconnected"], found["at_provider"]) == (True, "unsupported")
    for said in (found["message"], page.content.decode()):
        assert "Withdraw it in the settings of your account there." in said
    assert not scripted.asked("/revoke")


def test_a_connection_that_is_handed_over_meanwhile_is_unknown(
    delete, other_user, scripted_provider, make_connection, monkeypatch
):
    made = make_connection()
    monkeypatch.setattr(lifecycle, "check_actor", lambda actor: made.move_to(other_user))

    response = delete(made.pk)

    assert (response.status_code, response.json()["error"]) == (404, "unknown_connection")
    assert Connection.objects.get().status == "active"


# --- other sites ----------------------------------------------------------------------------------


@pytest.fixture
def browser(user):
    """A client that Django's check of cross-site requests applies to, signed in, with the cookie."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    client.get(API, secure=True)
    return client


@pytest.mark.compliance("D16", "CVE-2015-9284")
@pytest.mark.parametrize("with_middleware", [True, False])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-CSRFToken": "a" * 32},
        {"X-CSRFToken": None, "Origin": "https://evil.test"},
        {"X-CSRFToken": None, "Referer": "https://evil.test/"},
    ],
    ids=["no token", "a wrong one", "another origin", "another referrer"],
)
def test_another_site_starts_and_disconnects_nothing(
    headers, with_middleware, settings, browser, scripted_provider, make_connection
):
    """Also if the site has removed the middleware."""
    if not with_middleware:
        settings.MIDDLEWARE = [one for one in settings.MIDDLEWARE if "Csrf" not in one]
    settings.CSRF_FAILURE_VIEW = "tests.views.test_api.page_of_the_site"
    made = make_connection()
    token = browser.cookies["csrftoken"].value
    sent = {"Referer": "https://testserver/"} | {name: value or token for name, value in headers.items()}

    for act in (partial(browser.post, CONNECT), partial(browser.delete, f"{API}{made.pk}/")):
        response = act(secure=True, headers=sent)
        assert (response.status_code, response.json()["error"]) == (403, "csrf_failed")
    assert SESSION_KEY not in browser.session
    assert Connection.objects.get().status == "active"


def page_of_the_site(request, reason):
    raise AssertionError("the API answers itself")


@pytest.mark.parametrize("with_middleware", [True, False])
def test_the_token_of_the_cookie_opens_post_and_delete(
    with_middleware, settings, browser, scripted_provider, make_connection
):
    if not with_middleware:
        settings.MIDDLEWARE = [one for one in settings.MIDDLEWARE if "Csrf" not in one]
    token = browser.cookies["csrftoken"].value
    sent = {"X-CSRFToken": token, "Referer": "https://testserver/"}

    assert browser.post(CONNECT, secure=True, headers=sent).status_code == 200
    assert browser.delete(f"{API}{make_connection().pk}/", secure=True, headers=sent).status_code == 200


def test_the_token_of_a_session_opens_as_well(settings, user, scripted_provider):
    settings.CSRF_USE_SESSIONS = True
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    page = client.get("/oauth/scripted/connect/", secure=True)
    sent = {"X-CSRFToken": str(page.context["csrf_token"]), "Referer": "https://testserver/"}

    assert client.post(CONNECT, secure=True).status_code == 403
    assert client.post(CONNECT, secure=True, headers=sent).status_code == 200


@pytest.mark.parametrize("with_middleware", [True, False])
def test_a_stranger_makes_no_session(with_middleware, settings, scripted_provider, db):
    """Where the token is in the session, each request of a robot would store one more."""
    settings.CSRF_USE_SESSIONS = True
    if not with_middleware:
        settings.MIDDLEWARE = [one for one in settings.MIDDLEWARE if "Csrf" not in one]

    for act, address in (("get", API), ("head", API), ("post", CONNECT), ("delete", f"{API}{uuid.uuid4()}/")):
        client = Client(enforce_csrf_checks=True)
        response = getattr(client, act)(address, secure=True)
        assert response.status_code in (401, 403)
        assert not client.cookies
    assert not Session.objects.exists()


def test_no_browser_takes_an_answer_for_a_page(settings, visitor, scripted_provider):
    """Also if the site has no SecurityMiddleware."""
    settings.MIDDLEWARE = [one for one in settings.MIDDLEWARE if "Security" not in one]

    for address in (API, f"{API}<script>", CONNECT):
        assert visitor.get(address)["X-Content-Type-Options"] == "nosniff", address


def test_an_unknown_address_is_a_404_without_a_token_too(browser):
    response = browser.post(f"{API}elsewhere/", secure=True)

    assert (response.status_code, response.json()["error"]) == (404, "not_found")


def test_a_refused_request_is_logged_as_django_logs_it(browser, caplog):
    browser.post(CONNECT, secure=True)

    assert ("django.security.csrf", 403) in [
        (record.name, getattr(record, "status_code", None)) for record in caplog.records
    ]


def test_no_other_origin_is_allowed_to_read(visitor, scripted_provider):
    """Without such a header, a browser shows the answer to no script of another site."""
    for response in (
        visitor.get(API, headers={"Origin": "https://evil.test"}),
        visitor.client.options(API, secure=True, headers={"Origin": "https://evil.test"}),
    ):
        assert not [name for name in response.headers if name.startswith("Access-Control-")]


# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [API, CONNECT, f"{API}{NOBODY}/"])
@pytest.mark.parametrize("everywhere", [False, True])
def test_a_stranger_gets_401_and_no_redirect(everywhere, address, settings, scripted_provider):
    if everywhere:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    stranger = Visitor().client
    act = {API: stranger.get, CONNECT: stranger.post}.get(address, stranger.delete)

    response = act(address, secure=True)

    assert response.status_code == 401
    assert response.json() == {
        "error": "not_authenticated",
        "message": "Sign in first.",
        "login_url": "/accounts/login/",
    }
    assert response["WWW-Authenticate"] == "Session"


def test_without_a_login_page_a_stranger_gets_401_as_well(settings, db):
    settings.LOGIN_URL = "nowhere"

    assert Visitor().get(API).json()["login_url"] == ""


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "head", "options", "trace"])
@pytest.mark.parametrize("rest", ["x", "scripted/", "scripted/connect", "connect/", "a/b/c/", "%0A", "..;/"])
def test_an_unknown_address_is_a_404_in_json_for_each_method(method, rest, db):
    response = getattr(Visitor().client, method)(f"{API}{rest}", secure=True)

    assert response.status_code == 404
    assert response["Content-Type"] == JSON
    if method != "head":
        assert response.json()["error"] == "not_found"


@pytest.mark.parametrize(
    ("address", "allowed"), [(API, "GET, HEAD"), (CONNECT, "POST"), (f"{API}{NOBODY}/", "DELETE")]
)
def test_a_wrong_method_is_refused_with_those_that_are_right(address, allowed, visitor, scripted_provider):
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"):
        if method in allowed:
            continue
        response = visitor.client.generic(method, address, secure=True)
        assert (response.status_code, response["Allow"]) == (405, allowed), method
        assert response.json()["error"] == "method_not_allowed"


def test_the_method_comes_before_the_token_and_the_token_before_the_login(db, scripted_provider):
    stranger = Client(enforce_csrf_checks=True)

    assert stranger.put(CONNECT, secure=True).json()["error"] == "method_not_allowed"
    assert stranger.post(CONNECT, secure=True).json()["error"] == "csrf_failed"
    assert stranger.get(API, secure=True).json()["error"] == "not_authenticated"
    sent = {"X-CSRFToken": stranger.cookies["csrftoken"].value, "Referer": "https://testserver/"}
    assert stranger.post(CONNECT, secure=True, headers=sent).json()["error"] == "not_authenticated"


def test_a_site_s_own_addresses_come_first_if_they_are_listed_first(settings, visitor, scripted_provider):
    settings.ROOT_URLCONF = urlconf(
        path("api/mine/", lambda request: HttpResponse("mine")), path("", include("oauth_connect.urls"))
    )

    assert visitor.get("/api/mine/").content == b"mine"
    assert visitor.get("/api/").json()["connections"] == []
    assert visitor.get("/api/other/").json()["error"] == "not_found"


@pytest.mark.parametrize("mount", ["a", "b"])
def test_each_place_where_the_pages_are_included_has_its_own_addresses(
    mount, settings, visitor, scripted_provider, issues
):
    settings.ROOT_URLCONF = urlconf(
        path("a/", include("oauth_connect.urls", namespace="mine")),
        path("b/", include("oauth_connect.urls", namespace="theirs")),
    )
    (provider,) = visitor.get(f"/{mount}/api/").json()["providers"]
    assert provider["connect"] == f"/{mount}/api/scripted/connect/"
    assert provider["connect_url"] == f"/{mount}/scripted/connect/"

    url = visitor.post(provider["connect"]).json()["authorization_url"]
    assert query_of(url)["redirect_uri"] == f"https://app.example/{mount}/scripted/callback/"
    back = visitor.get(f"/{mount}/scripted/callback/", {"state": state_of(url), "code": "code"})
    assert back["Location"] == f"/{mount}/"
    (connection,) = visitor.get(f"/{mount}/api/").json()["connections"]
    assert connection["disconnect"].startswith(f"/{mount}/api/")
