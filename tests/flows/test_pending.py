from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from django.contrib.sessions.models import Session
from django.core import signing

from oauth_connect.flows import authorize
from oauth_connect.flows.pending import (
    LIFETIME,
    MAX_PENDING,
    SESSION_KEY,
    PendingAuthorization,
    find,
    remember,
    remove,
)
from oauth_connect.protocol.grants.callback import read_callback
from tests.support.visitor import Visitor, query_of, state_of

pytestmark = pytest.mark.django_db

DATABASE, CACHE, COOKIES = (
    f"django.contrib.sessions.backends.{name}" for name in ("db", "cache", "signed_cookies")
)
LARGEST_COOKIE = 4096


def take(request, state):
    found = find(request, state)
    return found if found is not None and remove(request, state, {}) else None


@pytest.fixture(params=[DATABASE, CACHE, COOKIES])
def session_engine(request, settings):
    settings.SESSION_ENGINE = request.param
    return request.param


def pending(state: str = "state", **changes) -> PendingAuthorization:
    entry = PendingAuthorization(
        state=state,
        provider="scripted",
        owner="user:1",
        user="1",
        client_id="client",
        issuer="",
        token_endpoint="https://id.example/token",
        redirect_uri="https://app.example/oauth/scripted/callback/",
        code_verifier="the verifier",
        nonce="",
        scopes=["read"],
        next="/",
        connection="",
    )
    return replace(entry, **changes)


@pytest.mark.compliance("B1")
def test_an_entry_is_taken_once(visitor):
    request = visitor.request()
    entry = pending()
    remember(request, entry)

    assert take(request, "state") == entry
    assert take(request, "state") is None


@pytest.mark.compliance("A1")
def test_an_unknown_state_takes_nothing(visitor):
    request = visitor.request()
    remember(request, pending())

    assert take(request, "another") is None
    assert take(request, "state") is not None


@pytest.mark.compliance("B1")
@pytest.mark.parametrize(
    ("age", "expired"), [(0, False), (LIFETIME - 1, False), (LIFETIME, True), (LIFETIME + 1, True)]
)
def test_an_entry_lives_ten_minutes(age, expired, monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)

    assert pending(created=now - age).has_expired is expired


def test_a_machine_whose_clock_is_behind_the_starting_one_takes_the_entry(monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)

    assert not pending(created=now + 30).has_expired


@pytest.mark.compliance("B1")
@pytest.mark.parametrize(("age", "status"), [(LIFETIME - 1, 302), (LIFETIME + 1, 400)])
def test_a_callback_is_taken_until_the_entry_expires(
    age, status, visitor, scripted, scripted_provider, issues
):
    state = state_of(visitor.start())
    request = visitor.request()
    remember(request, replace(take(request, state), created=time.time() - age))

    assert visitor.come_back(state=state, code="code").status_code == status
    assert len(scripted.asked("/token")) == (status == 302)


@pytest.mark.compliance("B2", "B3")
def test_the_session_holds_neither_verifier_nor_state_in_clear(session_engine, visitor, scripted_provider):
    state = state_of(visitor.start())
    taken = take(visitor.request(), state)

    stored = json.dumps(visitor.session.load() if session_engine != COOKIES else cookie_content(visitor))

    assert SESSION_KEY in stored
    assert taken is not None
    assert taken.code_verifier not in stored
    assert state not in stored


def cookie_content(visitor: Visitor) -> dict[str, object]:
    salt = "django.contrib.sessions.backends.signed_cookies"
    return signing.loads(visitor.client.cookies["sessionid"].value, salt=salt)


@pytest.mark.compliance("B3")
def test_an_entry_copied_under_another_state_is_refused(visitor):
    request = visitor.request()
    remember(request, pending("mine"))
    remember(request, pending("yours"))
    entries = request.session[SESSION_KEY]
    request.session[SESSION_KEY] = dict(zip(entries, reversed(entries.values()), strict=True))

    assert take(request, "mine") is None
    assert take(request, "yours") is None


def test_an_entry_of_another_version_of_this_package_is_not_a_flow(visitor, monkeypatch):
    request = visitor.request()
    remember(request, pending())
    monkeypatch.setattr("oauth_connect.crypto.unseal", lambda *_: {"state": "state", "gone": 1})

    assert take(request, "state") is None


@pytest.mark.once
@pytest.mark.compliance("D7", "CVE-2021-22119")
def test_500_starts_leave_a_handful_of_entries_and_the_newest_works(
    session_engine, visitor, scripted_provider, issues
):
    for _ in range(499):
        visitor.start(next="/somewhere/")
    newest = state_of(visitor.start(next="/somewhere/"))

    entries = visitor.session[SESSION_KEY]
    assert 2 <= len(entries) <= MAX_PENDING
    assert len(json.dumps(entries)) < 16 * 1024
    assert visitor.come_back(state=newest, code="code").status_code == 302


@pytest.mark.compliance("D6", "D7")
def test_starts_fit_into_a_session_cookie(settings, user, scripted_provider):
    """A browser throws a larger cookie away, and with it every flow under way."""
    settings.SESSION_ENGINE = COOKIES
    visitor = Visitor(user)
    for _ in range(MAX_PENDING + 1):
        visitor.start(next="/somewhere/that/is/not/so/near/?and=more")
        assert len(visitor.client.cookies["sessionid"].output(header="")) <= LARGEST_COOKIE


@pytest.mark.compliance("D7")
def test_the_oldest_start_is_the_one_that_goes(visitor, scripted_provider, issues):
    states = [state_of(visitor.start()) for _ in range(MAX_PENDING + 1)]

    assert visitor.come_back(state=states[0], code="code").status_code == 400
    assert visitor.come_back(state=states[1], code="code").status_code == 302


@pytest.mark.compliance("D6")
def test_a_start_keeps_what_another_tab_stored_since_this_request_began(visitor):
    early = visitor.request()
    early.session.get("anything")  # loads it, as the login does
    remember(visitor.request(), pending("the other tab's"))

    remember(early, pending("mine"))

    assert take(visitor.request(), "the other tab's") is not None
    assert take(visitor.request(), "mine") is not None


@pytest.mark.compliance("D6")
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_tabs_finish_in_either_order_each_with_its_own_verifier(
    order, session_engine, visitor, scripted, scripted_provider, issues
):
    starts = [query_of(visitor.start(next=f"/{number}/")) for number in range(2)]

    answers = [visitor.come_back(state=starts[number]["state"], code="code") for number in order]

    assert [answer["Location"] for answer in answers] == [f"/{number}/" for number in order]
    verifiers = {request.form["code_verifier"] for request in scripted.asked("/token")}
    assert len(verifiers) == 2


def test_signing_out_while_a_flow_starts_is_no_server_error(visitor, scripted_provider, monkeypatch):
    """The issuer may be slow. Meanwhile the user signs out in another tab."""
    monkeypatch.setattr(authorize, "asked_scopes", lambda *args: Session.objects.all().delete() and [])
    assert visitor.post("/oauth/scripted/connect/").status_code == 400


def test_signing_out_while_the_answer_arrives_is_a_page(visitor, scripted_provider, monkeypatch):
    state = state_of(visitor.start())

    def read(pairs):
        Session.objects.all().delete()
        return read_callback(pairs)

    monkeypatch.setattr(authorize, "read_callback", read)
    page = visitor.come_back(state=state, code="c")

    assert page.status_code == 400
    assert b"already ended" in page.content
