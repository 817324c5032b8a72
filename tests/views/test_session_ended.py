"""The session ends in the middle of a request: signed out in another tab, deleted, or its key was rotated."""

from __future__ import annotations

import pytest

from oauth_connect import flows
from oauth_connect.flows import authorize
from oauth_connect.models import Connection, ConsumedState
from tests.support.visitor import Visitor, state_of

pytestmark = pytest.mark.django_db

CONNECT = "/oauth/scripted/connect/"


def delete(session):
    session.delete()


def rotate(session):
    session.cycle_key()


@pytest.fixture(params=["db", "cache", "cached_db", "file"])
def visitor(request, settings, tmp_path, user):
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{request.param}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    return Visitor(user)


@pytest.fixture(params=[delete, rotate], ids=["deleted", "rotated"])
def end(request, visitor):
    """End the session that the visitor's browser has, as another request does."""
    return lambda: request.param(visitor.session)


def before(monkeypatch, owner, name, act):
    function = getattr(owner, name)

    def acting(*args, **kwargs):
        act()
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, acting)


def test_a_start_is_a_page_that_offers_a_new_start(visitor, end, scripted_provider, monkeypatch):
    before(monkeypatch, authorize, "asked_scopes", end)
    page = visitor.post(f"{CONNECT}?next=/here/")

    assert page.status_code == 400
    assert page.context["code"] == "session_ended"
    assert b"has ended in the meantime" in page.content
    assert f'href="{CONNECT}?next=%2Fhere%2F"'.encode() in page.content
    assert "sessionid" not in page.cookies, "the browser may already have a newer session"
    assert "no-store" in page["Cache-Control"]


def test_a_start_asked_for_json_says_it_as_json(visitor, end, scripted_provider, monkeypatch):
    before(monkeypatch, authorize, "asked_scopes", end)
    answer = visitor.client.post(CONNECT, secure=True, headers={"Accept": "application/json"})

    assert (answer.status_code, answer.json()) == (400, {"error": "session_ended"})


def test_a_callback_is_a_page_that_offers_a_new_start(visitor, end, scripted, scripted_provider, monkeypatch):
    state = state_of(visitor.start(next="/here/"))
    before(monkeypatch, type(ConsumedState.objects), "consume", end)
    page = visitor.come_back(state=state, code="code")

    assert page.status_code == 400
    assert page.context["code"] == "session_ended"
    assert f'href="{CONNECT}?next=%2Fhere%2F"'.encode() in page.content
    assert scripted.asked("/token") == []


def test_a_session_that_ends_while_the_provider_is_asked_keeps_its_connection(
    visitor, end, scripted_provider, issues, monkeypatch
):
    state = state_of(visitor.start(next="/here/"))
    before(monkeypatch, authorize, "_store", end)

    assert visitor.come_back(state=state, code="code")["Location"] == "/here/"
    assert Connection.objects.count() == 1


def test_a_refusal_while_the_session_ends_is_its_page(visitor, end, scripted_provider, monkeypatch):
    state = state_of(visitor.start())
    before(monkeypatch, authorize, "refusal_of", end)

    assert visitor.come_back(state=state, error="access_denied").context["code"] == "access_denied"


def test_a_disconnect_is_finished(visitor, end, scripted_provider, make_connection, monkeypatch):
    connection = make_connection()
    before(monkeypatch, flows, "disconnect", end)

    assert visitor.post(f"/oauth/{connection.pk}/disconnect/")["Location"] == "/oauth/"
    assert not Connection.objects.exclude(status="revoked").exists()


def test_messages_that_are_kept_in_the_session_do_not_make_a_success_an_error(
    visitor, end, scripted_provider, issues, settings, monkeypatch
):
    settings.MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
    state = state_of(visitor.start(next="/here/"))
    before(monkeypatch, authorize, "_store", end)
    assert visitor.come_back(state=state, code="code")["Location"] == "/here/"

    visitor = Visitor(Connection.objects.get().user)
    before(monkeypatch, flows, "disconnect", visitor.session.delete)
    pk = Connection.objects.get().pk
    assert visitor.post(f"/oauth/{pk}/disconnect/")["Location"] == "/oauth/"


@pytest.mark.parametrize("engine", ["db", "cache"])
def test_a_site_that_saves_every_session_gets_the_page_too(
    engine, user, scripted_provider, settings, monkeypatch
):
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_SAVE_EVERY_REQUEST = True
    visitor = Visitor(user)
    before(monkeypatch, authorize, "asked_scopes", lambda: visitor.session.delete())

    assert visitor.post(CONNECT).context["code"] == "session_ended"
