"""docs/json.md: each row of its table of answers is provoked, and its page runs in a real browser."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.test import Client
from django.test.testcases import LiveServerThread
from django.urls import include, path

from oauth_connect.flows import authorize
from oauth_connect.flows.paths import connect_path
from oauth_connect.models import Connection, Owner
from oauth_connect.views.api import TEXT
from tests.servers.scripted import Answer
from tests.support.visitor import CODEYARD_PASSWORD, Visitor, query_of

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text("utf-8")
TABLE = PAGE.partition("## All answers")[2].partition("\n## ")[0]
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in TABLE.splitlines()
    if re.match(r"\| `(?:GET|POST|DELETE|ANY) ", line)
]
HTML = PAGE.partition("```html\n")[2].partition("```")[0]

GET, POST, DELETE, ANY = "GET api/", "POST api/SLUG/connect/", "DELETE api/ID/", "ANY api/..."
MOUNT = "/connections"
urlpatterns = [
    path("accounts/", lambda request: HttpResponse(HTML)),
    path("login/", lambda request: HttpResponse("<title>Sign in</title>")),
    path("connections/", include("oauth_connect.urls")),
]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class Site:
    """What a row of the table needs: a user with a connection, and ways to make a request fail."""

    def __init__(self, user, make_connection, configure, entry, scripted, settings, monkeypatch):
        self.user, self.configure, self.entry, self.scripted = user, configure, entry, scripted
        self.settings, self.monkeypatch = settings, monkeypatch
        self.visitor = Visitor(user)
        self.connection = make_connection(account_label="ada")
        settings.LOGIN_URL = "/login/"

    def send(self, request, *, client=None, body=None, query="", slug="scripted", pk=None, **options):
        """Send a request of the table."""
        client = client or self.visitor.client
        options = {"secure": True, **options}
        if request == GET:
            return client.get(f"{MOUNT}/api/", **options)
        if request == DELETE:
            return client.delete(f"{MOUNT}/api/{pk or self.connection.pk}/", **options)
        content = json.dumps({} if body is None else body)
        address = f"{MOUNT}/api/{slug}/connect/{query}"
        return client.post(address, content, content_type="application/json", **options)

    def provider(self, **changes):
        self.configure(PROVIDERS={"scripted": {**self.entry, **changes}})

    def owner(self, owner):
        self.configure(OWNER=owner)


@pytest.fixture
def stage(
    user, make_connection, configure, scripted_entry, scripted_provider, scripted, settings, monkeypatch
):
    return Site(user, make_connection, configure, scripted_entry, scripted, settings, monkeypatch)


def sent(request, **options):
    return lambda site: site.send(request, **options)


def stranger(request):
    return lambda site: site.send(request, client=Visitor().client)


def from_elsewhere(request):
    def provoke(site):
        client = Client(enforce_csrf_checks=True)
        client.force_login(site.user)
        return site.send(request, client=client)

    return provoke


def may_not_manage(request):
    def provoke(site):
        site.owner(lambda request: Owner("org:1", may_manage=False))
        return site.send(request)

    return provoke


def denied(request):
    def owner(request):
        raise PermissionDenied

    def provoke(site):
        site.owner(owner)
        return site.send(request)

    return provoke


def not_found(request):
    def owner(request):
        raise Http404

    def provoke(site):
        site.owner(owner)
        return site.send(request)

    return provoke


def wrong_method(address):
    return lambda site: site.visitor.client.patch(f"{MOUNT}/api/{address}", secure=True)


def wrong_variables(site):
    shop = {"source": "user", "pattern": "[a-z]+"}
    site.provider(api_base_url="https://{shop}.test/", api_hosts=["{shop}.test"], variables={"shop": shop})
    return site.send(POST, body={"variables": {"shop": "?"}})


def session_ended(site):
    def ended(*args):
        site.visitor.session.delete()
        return []

    site.monkeypatch.setattr(authorize, "asked_scopes", ended)
    return site.send(POST)


def deactivated(site):
    site.settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.AllowAllUsersModelBackend"]
    site.user.is_active = False
    site.user.save()
    return site.send(POST, client=Visitor(site.user).client)


def link_ended(site):
    query = query_of(connect_path("scripted", scopes=["admin"], owner=site.user))
    site.monkeypatch.setattr("oauth_connect.flows.paths.MAX_AGE", -1)
    return site.send(POST, body=query)


def without_a_key(site):
    site.configure(KEYS=[])
    return site.send(POST)


def without_a_scheme(site):
    site.configure(BASE_URL="app.example")
    return site.send(POST)


def discovered(answer):
    def provoke(site):
        for name in ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"):
            site.scripted.on(name, answer)
        endpoints = {"authorization_endpoint": "", "token_endpoint": "", "revocation_endpoint": ""}
        site.provider(**endpoints, issuer=site.scripted.url)
        site.configure(DISCOVERY_PRIVATE_HOSTS=["127.0.0.1"])
        return site.send(POST)

    return provoke


ANSWERS = {
    (GET, 200, ""): sent(GET),
    (GET, 401, "not_authenticated"): stranger(GET),
    (GET, 403, "permission_denied"): denied(GET),
    (GET, 404, "not_found"): not_found(GET),
    (GET, 405, "method_not_allowed"): wrong_method(""),
    (POST, 200, ""): sent(POST),
    (POST, 400, "invalid_body"): sent(POST, body=[]),
    (POST, 400, "invalid_variables"): wrong_variables,
    (POST, 400, "session_ended"): session_ended,
    (POST, 401, "not_authenticated"): stranger(POST),
    (POST, 403, "csrf_failed"): from_elsewhere(POST),
    (POST, 403, "may_not_manage"): may_not_manage(POST),
    (POST, 403, "permission_denied"): denied(POST),
    (POST, 403, "user_inactive"): deactivated,
    (POST, 404, "unknown_provider"): sent(POST, slug="nowhere"),
    (POST, 404, "unknown_connection"): sent(POST, body={"connection": str(uuid.uuid4())}),
    (POST, 405, "method_not_allowed"): wrong_method("scripted/connect/"),
    (POST, 410, "link_ended"): link_ended,
    (POST, 500, "key_unavailable"): without_a_key,
    (POST, 500, "invalid_settings"): without_a_scheme,
    (POST, 502, "bad_metadata"): discovered(Answer(body=[])),
    (POST, 503, "http_503"): discovered(Answer(503)),
    (DELETE, 200, ""): sent(DELETE),
    (DELETE, 401, "not_authenticated"): stranger(DELETE),
    (DELETE, 403, "csrf_failed"): from_elsewhere(DELETE),
    (DELETE, 403, "may_not_manage"): may_not_manage(DELETE),
    (DELETE, 403, "permission_denied"): denied(DELETE),
    (DELETE, 404, "unknown_connection"): sent(DELETE, pk=uuid.uuid4()),
    (DELETE, 405, "method_not_allowed"): wrong_method(f"{uuid.uuid4()}/"),
    (ANY, 404, "not_found"): lambda site: site.visitor.client.put(f"{MOUNT}/api/elsewhere/", secure=True),
}


def key_of(row):
    request, status, code, *_ = row
    return request.strip("`"), int(status), code.strip("`")


def test_the_table_has_each_answer_once():
    keys = [key_of(row) for row in ROWS]
    assert len(keys) == len(set(keys))
    assert set(keys) == set(ANSWERS)
    assert set(TEXT) <= {code for _, _, code in keys}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(map(str, key_of(row))))
def test_each_row_of_the_table_is_true(row, stage):
    _, status, code = key = key_of(row)
    keys = set(re.findall(r"`(\w+)`", row[4]))

    response = ANSWERS[key](stage)

    answer = response.json()
    assert (response.status_code, answer.get("error", "")) == (status, code)
    assert set(answer) == keys | ({"error", "message"} if code else set())
    assert ("Retry-After" in response) == (status == 503)
    assert ("Allow" in response) == (status == 405)
    assert response["Content-Type"] == "application/json"
    assert {"no-store", "private"} <= set(response["Cache-Control"].split(", "))
    assert answer.get("message", "x")


@pytest.mark.parametrize(("request_", "code"), [(POST, "unknown_provider"), (DELETE, "unknown_connection")])
def test_where_there_is_no_owner_there_is_nothing(request_, code, stage):
    response = not_found(request_)(stage)

    assert (response.status_code, response.json()["error"]) == (404, code)


def test_a_form_that_cannot_be_read_comes_before_the_token(scripted_provider):
    client = Client(enforce_csrf_checks=True)
    client.get(f"{MOUNT}/api/", secure=True)
    options = {"secure": True, "headers": {"Referer": "https://testserver/"}}

    for kind, code in (("multipart/form-data", "invalid_body"), ("application/json", "csrf_failed")):
        response = client.post(f"{MOUNT}/api/scripted/connect/", "no form", content_type=kind, **options)
        assert response.json()["error"] == code


def test_the_example_of_the_list_has_its_fields(stage):
    (example,) = re.findall(r"```json\n(.+?)```", PAGE, re.DOTALL)
    shop = {"source": "user", "pattern": "[a-z]+"}
    stage.provider(api_base_url="https://{shop}.test/", api_hosts=["{shop}.test"], variables={"shop": shop})

    assert fields_of(stage.send(GET).json()) == fields_of(json.loads(example))


def fields_of(value):
    """Return the names of all fields, in their order."""
    if isinstance(value, dict):
        return [(name, fields_of(inner)) for name, inner in value.items()]
    return (
        [fields_of(inner) for inner in value if isinstance(inner, dict)] if isinstance(value, list) else None
    )


# --- the page -------------------------------------------------------------------------------------


@pytest.fixture
def origin(configure, settings, codeyard):
    """The site, on another host than the provider: localhost. The real provider knows its redirect URI."""
    server = LiveServerThread("localhost", lambda handler: handler)
    server.start()
    server.is_ready.wait()
    origin = f"http://localhost:{server.port}"
    codeyard.add_redirect_uri(f"{origin}{MOUNT}/codeyard/callback/")
    configure(BASE_URL=origin)
    settings.LOGIN_URL = "/login/"
    yield origin
    server.terminate()


@pytest.fixture
def tab(browser, origin, visitor):
    tab = browser.open_tab(base_url=origin)
    cookie = {"name": "sessionid", "value": visitor.client.cookies["sessionid"].value, "url": origin}
    tab(lambda page: page.context.add_cookies([cookie]))
    yield tab
    tab.close()


def press(page, name):
    page.get_by_role("button", name=name).click()


def connect(page, origin):
    """Connect the account of Codeyard's user ada, and come back to the page."""
    press(page, "Connect Codeyard")
    page.get_by_label("Login").fill("ada")
    page.get_by_label("Password").fill(CODEYARD_PASSWORD)
    press(page, "Sign in")
    press(page, "Allow")
    page.wait_for_url(f"{origin}/accounts/")


@pytest.mark.once
@pytest.mark.django_db(transaction=True)
def test_the_page_connects_an_account_and_disconnects_it(tab, origin):
    def walk(page):
        page.goto("/accounts/")
        connect(page, origin)
        listed = page.get_by_role("listitem").inner_text()
        press(page, "Disconnect")
        page.get_by_role("listitem").wait_for(state="detached")
        return listed, page.get_by_role("status").inner_text()

    listed, said = tab(walk)

    assert listed.startswith("Codeyard: ada (active)")
    assert said == "ada is disconnected."
    connection = Connection.objects.get()
    assert (connection.status, connection.sealed_token) == ("revoked", None)


@pytest.mark.once
@pytest.mark.django_db(transaction=True)
def test_the_page_asks_for_what_the_provider_needs(tab, codeyard, configure, settings):
    """The server fills no default in, so the page begins with it."""
    entry = settings.OAUTH_CONNECT["PROVIDERS"]["codeyard"]
    region = {"source": "user", "label": "Region", "choices": ["eu", "us"], "default": "us"}
    urls = {"api_base_url": "https://{region}.test/", "api_hosts": ["{region}.test"]}
    configure(PROVIDERS={"codeyard": {**entry, **urls, "variables": {"region": region}}})
    asked = []

    def answer(dialog):
        asked.append((dialog.message, dialog.default_value))
        dialog.accept(dialog.default_value)

    def walk(page):
        page.on("dialog", answer)
        page.goto("/accounts/")
        press(page, "Connect Codeyard")
        page.get_by_label("Login").wait_for()  # at the provider

    tab(walk)

    assert asked == [("Region. eu, us", "us")]


@pytest.mark.once
@pytest.mark.django_db(transaction=True)
def test_the_page_leads_a_visitor_whose_session_has_ended_to_the_login(tab, visitor):
    def walk(page):
        page.goto("/accounts/")
        page.get_by_role("button", name="Connect Codeyard").wait_for()
        page.context.clear_cookies(name="sessionid")
        press(page, "Connect Codeyard")
        page.wait_for_url("**/login/?next=%2Faccounts%2F")

    tab(walk)


@pytest.mark.once
@pytest.mark.django_db(transaction=True)
def test_the_page_shows_the_sentence_of_a_refusal(tab, codeyard, configure):
    def walk(page):
        page.goto("/accounts/")
        page.get_by_role("button", name="Connect Codeyard").wait_for()
        configure(KEYS=[])
        press(page, "Connect Codeyard")
        page.get_by_role("status").filter(has_text=re.compile(".")).wait_for()
        return page.get_by_role("status").inner_text()

    assert tab(walk) == "This site is not set up completely. Its operators must correct that."
