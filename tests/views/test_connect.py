from __future__ import annotations

import time

import pytest
from django.test import Client

from oauth_connect.flows.paths import connect_path
from oauth_connect.flows.pending import SESSION_KEY
from oauth_connect.models import Connection, Owner
from oauth_connect.views import ConnectView
from tests.servers.scripted import Answer
from tests.support.visitor import Visitor, query_of, state_of

pytestmark = pytest.mark.django_db

CONNECT = "/oauth/scripted/connect/"
NOBODYS = "00000000-0000-0000-0000-000000000000"
HOSTILE = ["//evil.test", "https://[::1", "/\\evil.test", "javascript:alert(1)", "/a\r\nb"]


@pytest.mark.compliance("D16", "CVE-2015-9284")
def test_get_asks_first_and_begins_nothing(visitor, scripted_provider):
    page = visitor.get(CONNECT)

    assert page.status_code == 200
    assert b'<form method="post">' in page.content
    assert SESSION_KEY not in visitor.session


@pytest.mark.compliance("D16", "CVE-2015-9284")
def test_post_without_a_csrf_token_begins_nothing(user, scripted_provider):
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)

    assert client.post(CONNECT).status_code == 403
    assert SESSION_KEY not in client.session


def test_post_sends_the_browser_to_the_provider(visitor, scripted, scripted_provider):
    assert visitor.start().startswith(f"{scripted.url}/authorize?")


@pytest.mark.parametrize(
    ("accept", "as_json"),
    [
        ("application/json", True),
        ("application/json, text/plain;q=0.5", True),
        ("*/*", False),
        ("", False),
    ],
)
def test_asked_for_json_the_answer_is_the_url(accept, as_json, visitor, scripted, scripted_provider, issues):
    response = visitor.post(CONNECT, headers={"Accept": accept} if accept else {})

    assert response.status_code == (200 if as_json else 302)
    if as_json:
        url = response.json()["authorization_url"]
        assert visitor.come_back(state=state_of(url), code="code").status_code == 302


def test_a_link_with_scopes_says_when_it_has_ended(visitor, user, scripted_provider, monkeypatch):
    path = connect_path("scripted", scopes=["admin"], owner=user)
    assert "admin" in visitor.get(path).content.decode()
    later = time.time() + 31 * 86400
    monkeypatch.setattr("django.core.signing.time.time", lambda: later)

    for response in (visitor.get(path), visitor.post(path)):
        assert response.status_code == 410
        assert response.context["code"] == "link_ended"
        assert "no-store" in response["Cache-Control"]
    assert SESSION_KEY not in visitor.session


@pytest.mark.parametrize("path", [CONNECT, "/oauth/", f"/oauth/{NOBODYS}/disconnect/"])
def test_a_stranger_is_asked_to_sign_in_first(path, db, scripted_provider):
    response = Visitor().get(path)

    assert response.status_code == 302
    assert response["Location"].startswith("/accounts/login/?next=")


@pytest.mark.parametrize("slug", ["nowhere", "off", "machine"])
def test_what_cannot_be_connected_is_not_found(slug, visitor, scripted_entry, configure, settings):
    settings.DEBUG = True
    configure(
        PROVIDERS={
            "off": {**scripted_entry, "enabled": False},
            "machine": {**scripted_entry, "authorization_endpoint": ""},
        }
    )

    page = visitor.get(f"/oauth/{slug}/connect/")
    assert page.status_code == 404
    assert f"&#x27;{slug}&#x27;" in page.content.decode()  # the page under DEBUG says what is not found
    assert visitor.post(f"/oauth/{slug}/connect/").status_code == 404


@pytest.mark.parametrize("value", ["nonsense", "\x00", "1", NOBODYS])
def test_a_connection_that_is_not_there_is_not_found(value, visitor, scripted_provider):
    assert visitor.get(CONNECT, {"connection": value}).status_code == 404
    assert visitor.post(f"{CONNECT}?connection={value}").status_code == 404


def test_the_page_names_the_account_to_be_connected_again(visitor, scripted_provider, make_connection):
    connection = make_connection(account_label="ada@example.com")

    assert b"ada@example.com" in visitor.get(CONNECT, {"connection": connection.pk}).content


@pytest.mark.compliance("A13", "D14", "CVE-2022-31093")
@pytest.mark.parametrize("target", HOSTILE)
@pytest.mark.parametrize("where", ["query", "form"])
def test_a_target_elsewhere_leads_to_the_default_page(target, where, visitor, scripted_provider, issues):
    assert b"evil" not in visitor.get(CONNECT, {"next": target}).content
    url = visitor.start(next=target) if where == "query" else visitor.start(data={"next": target})

    response = visitor.come_back(state=state_of(url), code="code")

    assert (response.status_code, response["Location"]) == (302, "/oauth/")


@pytest.mark.compliance("A13", "D14")
def test_the_target_is_never_read_from_the_answer(visitor, scripted_provider, issues):
    state = state_of(visitor.start())

    assert visitor.come_back(state=state, code="code", next="/elsewhere/")["Location"] == "/oauth/"


def test_the_target_survives_the_form(visitor, scripted_provider, issues):
    page = visitor.get(CONNECT, {"next": "/reports/?a=1&b=2"})
    assert b'name="next" value="/reports/?a=1&amp;b=2"' in page.content

    url = visitor.start(data={"next": "/reports/?a=1&b=2"})

    assert visitor.come_back(state=state_of(url), code="code")["Location"] == "/reports/?a=1&b=2"


def test_an_organisation_can_own_a_connection(visitor, user, scripted_provider, issues, configure):
    configure(OWNER=lambda request: Owner("org:1", label="The organisation"))

    visitor.connect()

    connection = Connection.objects.get()
    assert (connection.owner, connection.user, connection.connected_by) == ("org:1", None, user)
    assert Connection.objects.for_owner("org:1").get() == connection


def test_who_may_not_manage_is_forbidden_to_connect(visitor, scripted, scripted_provider, configure):
    configure(OWNER=lambda request: Owner("org:1", may_manage=False))

    assert visitor.get(CONNECT).status_code == visitor.post(CONNECT).status_code == 403
    assert SESSION_KEY not in visitor.session


@pytest.mark.parametrize(
    ("contact", "advice"),
    [
        ("", "Ask someone who manages Acme &amp; Co."),
        ("Ada <it@acme.example>", "Ask Ada &lt;it@acme.example"),
    ],
)
def test_who_may_not_manage_reads_whom_to_ask(contact, advice, visitor, scripted_provider, configure):
    owner = Owner("org:1", label="Acme & Co", may_manage=False, contact=contact)
    configure(OWNER=lambda request: owner)

    for path in (CONNECT, "/oauth/"):
        assert advice in visitor.get(path).content.decode(), path


def test_who_may_not_manage_is_refused_in_json(visitor, scripted_provider, configure):
    configure(OWNER=lambda request: Owner("org:1", may_manage=False))

    response = visitor.post(CONNECT, headers={"Accept": "application/json"})

    said = (
        "Other people connect, choose and disconnect these accounts. Ask someone who manages these accounts."
    )
    assert (response.status_code, response.json()) == (403, {"error": "may_not_manage", "message": said})
    assert "no-store" in response["Cache-Control"]


def test_the_page_says_whose_the_account_will_be(visitor, scripted_provider, configure):
    configure(OWNER=lambda request: Owner("org:1", label="Acme & Co"))

    for response in (visitor.get(CONNECT), visitor.post(CONNECT, headers={"Accept": "text/html"})):
        assert "Accounts of Acme &amp; Co" in response.content.decode()


# --- one account ----------------------------------------------------------------------------------


@pytest.fixture
def one_account(scripted_entry, configure):
    """Let an owner have one account at the provider, and let its API say whose a token is."""
    url = scripted_entry["api_base_url"]
    configure(
        PROVIDERS={"scripted": {**scripted_entry, "one_account": True, "userinfo_endpoint": f"{url}user"}}
    )


def test_where_one_account_is_allowed_the_page_says_which_one_is_replaced(
    visitor, one_account, make_connection
):
    text = "it replaces this one"
    assert text not in visitor.get(CONNECT).content.decode()

    make_connection(account_label="ada@example.com")
    page = visitor.get(CONNECT).content.decode()

    assert text in page
    assert "ada@example.com" in page


def test_where_one_account_is_allowed_all_others_are_replaced(visitor, one_account, make_connection):
    for label in ("ada@example.com", "linus@example.com"):
        make_connection(account_label=label)

    page = visitor.get(CONNECT).content.decode()

    assert "it replaces these" in page
    assert "ada@example.com" in page
    assert "linus@example.com" in page


def test_where_one_account_is_allowed_connecting_it_again_replaces_nothing(
    visitor, one_account, make_connection
):
    connection = make_connection(account_label="ada@example.com")

    assert "it replaces" not in visitor.get(CONNECT, {"connection": connection.pk}).content.decode()


@pytest.mark.django_db(transaction=True)
def test_where_one_account_is_allowed_another_one_takes_its_place(
    visitor, scripted, one_account, issues, make_connection
):
    before = make_connection(account_id="1")
    scripted.on("/revoke", Answer())
    scripted.on("/api/user", Answer(body={"id": 2, "login": "linus"}))

    url = visitor.start()
    assert Connection.objects.get(pk=before.pk).status == "active"
    assert visitor.come_back(state=state_of(url), code="code").status_code == 302

    before.refresh_from_db()
    assert (before.status, before.sealed_token) == ("revoked", None)
    assert Connection.objects.get(status="active").account_id == "2"
    assert [call.form["token"] for call in scripted.asked("/revoke")] == ["refresh-0"]


def test_a_flow_that_fails_replaces_no_account(visitor, scripted, one_account, make_connection):
    before = make_connection(account_id="1")
    scripted.on("/token", Answer(400, {"error": "invalid_grant"}))

    assert visitor.connect().status_code == 502

    assert Connection.objects.get() == before
    assert Connection.objects.get().status == "active"


# --- the form for a shop or tenant ----------------------------------------------------------------


@pytest.fixture
def shop(scripted_entry, configure):
    """Let the user enter a shop."""
    variable = {"source": "user", "label": "Shop", "pattern": "[a-z-]+\\.shops\\.example"}

    def configured(**more):
        entry = {
            **scripted_entry,
            "api_base_url": "https://{shop}/api/",
            "variables": {"shop": {**variable, **more}},
        }
        configure(PROVIDERS={"scripted": entry})

    return configured


def test_the_form_has_an_example(visitor, shop):
    shop(example="my-shop.shops.example")

    page = visitor.get(CONNECT).content.decode()

    assert "For example my-shop.shops.example" in page
    assert 'aria-describedby="id_shop_helptext"' in page


@pytest.mark.parametrize("value", ["", "nonsense", "https://evil.test/my-shop.shops.example"])
def test_an_error_in_the_form_says_what_would_be_right(value, visitor, shop):
    shop(example="my-shop.shops.example")

    response = visitor.post(CONNECT, {"shop": value})
    page = response.content.decode()

    assert response.status_code == 400
    assert "Enter it like my-shop.shops.example." in page
    assert 'aria-invalid="true"' in page
    assert "autofocus" in page
    assert SESSION_KEY not in visitor.session


def test_a_value_that_fits_its_pattern_and_makes_no_url_is_an_error_in_the_form(visitor, shop):
    shop(pattern=".+", example="my-shop.shops.example")

    response = visitor.post(CONNECT, {"shop": "my shop"})

    assert response.status_code == 400
    assert "Enter it like my-shop.shops.example." in response.content.decode()
    assert SESSION_KEY not in visitor.session


def test_without_an_example_the_default_is_one(visitor, shop):
    shop(default="demo.shops.example")

    response = visitor.post(CONNECT, {"shop": "nonsense"}, headers={"Accept": "application/json"})

    assert response.json()["errors"] == {"scripted.variables.shop": ["Enter it like demo.shops.example."]}


def test_without_an_example_and_a_default_a_value_is_not_valid(visitor, shop):
    shop()

    assert "This value is not valid." in visitor.post(CONNECT, {"shop": "nonsense"}).content.decode()


@pytest.mark.compliance("Nango")
def test_whose_a_connection_is_comes_from_the_request_alone(
    visitor, user, other_user, scripted_provider, issues
):
    claims = {"user": str(other_user.pk), "owner": f"user:{other_user.pk}", "account_id": "7"}
    state = state_of(visitor.start(data=claims, **claims))
    visitor.come_back(state=state, code="code", **claims)

    connection = Connection.objects.get()
    assert (connection.user, connection.account_id) == (user, "")


def test_a_provider_that_a_site_keeps_for_one_owner_is_connected(
    visitor, user, scripted_entry, issues, configure
):
    mine = {f"user:{user.pk}": scripted_entry}
    configure(
        PROVIDERS={},
        PROVIDER_LOADER=lambda slug, owner: mine.get(owner),
        DISCOVERY_PRIVATE_HOSTS=["127.0.0.1"],
    )

    assert visitor.connect("elsewhere").status_code == 302
    assert Connection.objects.get().provider == "elsewhere"


def test_a_site_s_own_template_can_be_given(rf, user, scripted_provider):
    request = rf.get(CONNECT)
    request.user = user

    response = ConnectView.as_view(template_name="own.html")(request, provider="scripted")

    assert response.template_name == ["own.html"]


def test_the_url_at_the_provider_has_the_client_and_no_secret(visitor, scripted_provider):
    query = query_of(visitor.start())

    assert query["client_id"] == "client"
    assert "secret" not in "".join(query.values())
