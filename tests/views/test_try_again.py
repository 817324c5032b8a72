"""*Try again* starts the same attempt: the next page, the connection, the scopes, the shop or tenant."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import timedelta
from html import unescape

import pytest

from oauth_connect.flows import connect_path, paths
from oauth_connect.flows.pending import find, remember
from tests.servers.scripted import Answer
from tests.support.visitor import query_of, state_of

pytestmark = pytest.mark.django_db

CONNECT = "/oauth/scripted/connect/"


def try_again(page) -> str:
    (href,) = re.findall(r'href="([^"]*/connect/[^"]*)"', page.content.decode())
    return unescape(href)


@pytest.fixture
def entry(scripted_entry, configure):
    entry = {**scripted_entry, "scopes": ["read"]}
    configure(PROVIDERS={"scripted": entry})
    return entry


@pytest.mark.parametrize(
    "answer", [{"error": "access_denied"}, {"error": "server_error"}, {"code": "code"}, {}], ids=str
)
def test_the_next_page_and_the_scopes_are_kept(answer, entry, visitor, user, scripted, issues):
    body = scripted.script["/token"][0].body
    scripted.on("/token", Answer(503))
    path = connect_path("scripted", next_path="/reports/?a=1&b=2", scopes=["write"], owner=user)
    state = state_of(visitor.follow(path))

    again = try_again(visitor.come_back(state=state, **answer))

    started = visitor.follow(again)
    assert query_of(started)["scope"] == "read write"
    scripted.on("/token", Answer(body=body))
    assert visitor.come_back(state=state_of(started), code="code")["Location"] == "/reports/?a=1&b=2"


def test_nothing_that_was_not_asked_for_is_added(entry, visitor):
    assert try_again(visitor.come_back(state=state_of(visitor.start()), error="access_denied")) == CONNECT


def test_after_a_wrong_account_the_same_connection_is_renewed(
    entry, configure, visitor, make_connection, issues
):
    identity = {"source": "token_response", "id": ["account"], "label": ["account"]}
    configure(PROVIDERS={"scripted": {**entry, "identity": identity}})
    connection = make_connection(account_id="ada", account_label="ada")
    issues(account="linus")
    page = visitor.connect(connection=connection.pk)
    assert page.context["code"] == "other_account"

    again = try_again(page)
    assert f"connection={connection.pk}" in again
    assert b"account ada must be connected again" in visitor.get(again).content
    issues(account="ada")
    assert visitor.come_back(state=state_of(visitor.follow(again)), code="code").status_code == 302
    connection.refresh_from_db()
    assert (connection.version > 0, connection.account_id) == (True, "ada")


def test_the_shop_is_filled_in_again(entry, configure, visitor, scripted):
    variables = {"shop": {"source": "user", "pattern": "[a-z]+"}}
    configure(PROVIDERS={"scripted": {**entry, "variables": variables}})
    state = state_of(visitor.start(data={"shop": "acme"}, next="/here/"))

    again = try_again(visitor.come_back(state=state, error="server_error"))

    assert query_of(again) == {"shop": "acme", "next": "/here/"}
    assert b'value="acme"' in visitor.get(again).content


def test_an_attempt_that_took_too_long_is_started_again_as_it_was(entry, visitor):
    state = state_of(visitor.start(next="/here/"))
    request = visitor.request()
    remember(request, replace(find(request, state), created=time.time() - 601))

    page = visitor.come_back(state=state, code="code")

    assert page.context["code"] == "state_expired"
    assert try_again(page) == f"{CONNECT}?next=%2Fhere%2F"


def test_an_expired_link_keeps_the_next_page_and_not_its_scopes(entry, visitor, user, monkeypatch):
    path = connect_path("scripted", next_path="/here/", scopes=["write"], owner=user)
    monkeypatch.setattr(paths, "MAX_AGE", timedelta(seconds=-1))
    page = visitor.get(path)
    assert page.status_code == 410
    assert try_again(page) == f"{CONNECT}?next=%2Fhere%2F"


def test_a_start_that_fails_keeps_everything(configure, visitor, scripted, make_connection, scripted_entry):
    configure(
        PROVIDERS={
            "scripted": {
                "issuer": scripted.url,
                "client_id": "client",
                "variables": {"shop": {"source": "user", "pattern": "[a-z]+"}},
                "api_base_url": "https://{shop}.example/",
            }
        },
        DISCOVERY_PRIVATE_HOSTS=["127.0.0.1"],
    )
    page = visitor.post(f"{CONNECT}?next=/here/&code=stolen&state=x", {"shop": "acme", "other": "secret"})

    assert page.status_code == 502
    assert query_of(try_again(page)) == {"shop": "acme", "next": "/here/"}


def test_another_users_attempt_is_not_repeated(entry, visitor, other_user):
    state = state_of(visitor.start(next="/here/"))
    session = visitor.session
    entries = session["oauth_connect_pending"]
    visitor.client.force_login(other_user)
    session = visitor.session
    session["oauth_connect_pending"] = entries
    session.save()

    page = visitor.come_back(state=state, code="code")

    assert page.context["code"] == "other_user"
    assert try_again(page) == CONNECT
