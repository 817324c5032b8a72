"""Every page: private, not framed, whole without anybody else, and without a token."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders

from oauth_connect.models import Connection, Owner
from oauth_connect.urls import urlpatterns
from tests.servers.scripted import Answer
from tests.support.visitor import Visitor, state_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def pages(visitor, user, scripted, scripted_provider, issues, make_connection, configure, scripted_entry):
    """Each page and each answer that there is, by name, of a user with a connection."""
    with_sites = {
        "accounts": {"endpoint": f"{scripted.url}/sites", "variable": "site"},
        "variables": {"site": {"source": "accounts", "pattern": "[a-z0-9-]+"}},
    }
    configure(PROVIDERS={"scripted": scripted_provider, "sited": {**scripted_entry, **with_sites}})
    scripted.on("/sites", Answer(body=[{"id": "s-1"}, {"id": "s-2"}]))
    sited = make_connection(provider="sited", variables={"site": ""}).pk
    connected = visitor.connect()
    pk = Connection.objects.get(provider="scripted").pk
    other = make_connection(account_label="linus")
    denied = visitor.come_back(state=state_of(visitor.start()), error="access_denied")
    scripted.on("/token", Answer(503))
    failed = visitor.connect()
    found = {
        "connections": visitor.get("/oauth/"),
        "connect": visitor.get("/oauth/scripted/connect/?next=/x/"),
        "reconnect": visitor.get(f"/oauth/scripted/connect/?connection={pk}"),
        "start": visitor.post("/oauth/scripted/connect/"),
        "leave": visitor.post("/oauth/scripted/connect/", headers={"Accept": "text/html"}),
        "start as JSON": visitor.post("/oauth/scripted/connect/", headers={"Accept": "application/json"}),
        "callback": connected,
        "callback denied": denied,
        "callback failed": failed,
        "callback without a state": visitor.come_back(),
        "callback of a stranger": Visitor().come_back(),
        "connections of a stranger": Visitor().get("/oauth/"),
        "wrong method": visitor.post("/oauth/"),
        "choose": visitor.get("/oauth/scripted/accounts/"),
        "chosen": visitor.post("/oauth/scripted/accounts/", {"connection": other.pk}),
        "site": visitor.get(f"/oauth/{sited}/site/"),
        "site unknown": visitor.post(f"/oauth/{sited}/site/", {"site": "s-9"}),
        "site chosen": visitor.post(f"/oauth/{sited}/site/", {"site": "s-1"}),
        "api": visitor.get("/oauth/api/"),
        "api start": visitor.post("/oauth/api/scripted/connect/"),
        "api unknown account": visitor.client.delete(f"/oauth/api/{uuid.uuid4()}/", secure=True),
        "api of a stranger": Visitor().get("/oauth/api/"),
        "api wrong method": visitor.post("/oauth/api/"),
        "api unknown": visitor.get("/oauth/api/scripted/"),
        "api disconnected": visitor.client.delete(f"/oauth/api/{other.pk}/", secure=True),
        "disconnect": visitor.get(f"/oauth/{pk}/disconnect/"),
        "disconnected": visitor.post(f"/oauth/{pk}/disconnect/"),
    }
    configure(OWNER=lambda request: Owner("org:1", label="The organisation", may_manage=False))
    return {**found, "not allowed": visitor.get("/oauth/scripted/connect/")}


def test_the_pages_below_are_all_there_are(pages):
    assert {pattern.name for pattern in urlpatterns} == {
        *("connections", "connect", "choose", "callback", "disconnect", "site"),
        *("api", "api_connect", "api_connection", "api_unknown"),
    }
    assert {name for name, page in pages.items() if page.status_code >= 500} == {"callback failed"}


@pytest.mark.compliance("A42", "CVE-2026-40155", "CVE-2025-48947")
def test_no_page_is_ever_cached(pages):
    for name, page in pages.items():
        assert {"no-store", "private", "no-cache"} <= set(page["Cache-Control"].split(", ")), name


def test_each_answer_of_the_api_is_json_that_no_browser_takes_for_something_else(pages):
    for name, page in pages.items():
        if name.startswith("api"):
            assert page["Content-Type"] == "application/json", name
            assert page["X-Content-Type-Options"] == "nosniff", name


@pytest.mark.compliance("A43", "D16")
def test_no_page_can_be_framed(pages):
    assert {page["X-Frame-Options"] for page in pages.values()} == {"DENY"}


@pytest.mark.compliance("A42")
def test_no_page_reveals_its_address_to_another_site(pages):
    for name, page in pages.items():
        policy = "strict-origin" if name.startswith("callback") else "same-origin"
        assert page["Referrer-Policy"] == policy, name


@pytest.mark.compliance("A42")
def test_no_page_loads_or_links_to_anything_elsewhere(pages):
    for name, page in pages.items():
        if name == "leave":  # its purpose (test_leave.py)
            continue
        targets = re.findall(rb"""(?:src|href|action|url)\s*[=(]\s*["']?([^"'\s>)]+)""", page.content)
        assert all(target.startswith(b"/") and not target.startswith(b"//") for target in targets), name
        assert b"<script" not in page.content, name
        assert b"style=" not in page.content, name


@pytest.mark.compliance("A42", "B9")
def test_the_assets_are_this_package_s_own_and_store_nothing():
    stylesheet = Path(finders.find("oauth_connect/oauth_connect.css")).read_text("utf-8")

    assert not re.search(r"https?:|//[a-z]|@import|url\(", stylesheet)
    assert finders.find("oauth_connect/oauth_connect.js") is None


@pytest.mark.compliance("B2", "B3", "B9")
def test_no_page_header_cookie_or_session_holds_a_token(pages, visitor, canary):
    for name, page in pages.items():
        seen = f"{page.headers} {page.cookies} {page.content.decode()}"
        assert canary not in seen, name
    assert canary not in str(visitor.session.load())


@pytest.mark.parametrize("name", ["connect", "choose", "site", "disconnect"])
def test_forms_post_to_where_they_are_with_a_csrf_token(pages, name):
    content = pages[name].content.decode()

    assert content.count('<form method="post">') == 1
    assert content.count('name="csrfmiddlewaretoken"') == 1


def test_pages_are_whole_documents_in_a_named_language(pages):
    for page in pages.values():
        if page.status_code in (200, 400, 403, 502) and "html" in page["Content-Type"]:
            content = page.content.decode()
            assert content.startswith('<!doctype html>\n<html lang="en')
            assert content.count("<h1>") == content.count("<main>") == content.count("<title>") == 1
