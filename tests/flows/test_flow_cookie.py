"""The newest flow survives a request of another tab that writes an old copy of the session back."""

from __future__ import annotations

import pytest

from oauth_connect.flows import flow_cookie
from oauth_connect.flows.flow_cookie import NAME
from oauth_connect.flows.pending import SESSION_KEY
from oauth_connect.models import ConsumedState
from tests.support.visitor import Visitor, callback_path, state_of

pytestmark = pytest.mark.django_db


@pytest.fixture(params=["db", "cache", "cached_db", "file"])
def engine(request, settings, tmp_path):
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{request.param}"
    settings.SESSION_FILE_PATH = str(tmp_path)


def start_and_overwrite(visitor, **query) -> str:
    """Start a flow while a slow request of another tab has the session, and let that one end."""
    slow = visitor.session
    slow["cart"] = 1
    state = state_of(visitor.start(**query))
    slow.save()
    assert SESSION_KEY not in visitor.session
    return state


def test_a_flow_survives_an_old_copy_of_its_session(engine, user, scripted, scripted_provider, issues):
    visitor = Visitor(user)
    state = start_and_overwrite(visitor, next="/here/")

    for _ in range(2):
        assert visitor.come_back(state=state, code="code")["Location"] == "/here/"
    assert len(scripted.asked("/token")) == ConsumedState.objects.count() == 1
    assert visitor.session["cart"] == 1


@pytest.mark.compliance("A1", "B2")
def test_the_cookie_is_for_the_callback_alone_and_shows_nothing(visitor, scripted_provider):
    answer = visitor.post("/oauth/scripted/connect/?next=/secret-path/")
    cookie = answer.cookies[NAME]

    assert cookie["path"] == callback_path("scripted")
    assert (cookie["httponly"], cookie["secure"], cookie["samesite"]) == (True, True, "Lax")
    assert cookie["max-age"] == 600
    assert state_of(answer["Location"]) not in cookie.value
    assert "secret-path" not in cookie.value


@pytest.mark.compliance("A1", "D10")
def test_the_cookie_is_worth_nothing_in_another_session(
    visitor, user, other_user, scripted, scripted_provider, issues
):
    state = start_and_overwrite(visitor)
    stolen = visitor.client.cookies[NAME].value

    for someone in (Visitor(), Visitor(user), Visitor(other_user)):
        someone.client.cookies[NAME] = stolen
        page = someone.come_back(state=state, code="code")
        assert page.context["code"] == "state_unknown"
    assert scripted.asked("/token") == []
    assert not ConsumedState.objects.exists()


@pytest.mark.compliance("A1")
def test_the_cookie_ends_with_the_session(visitor, user, scripted, scripted_provider, issues):
    state = start_and_overwrite(visitor)
    flow = visitor.client.cookies[NAME].value
    visitor.client.logout()
    visitor.client.force_login(user)
    visitor.client.cookies[NAME] = flow

    assert visitor.come_back(state=state, code="code").context["code"] == "state_unknown"
    assert scripted.asked("/token") == []


def test_the_end_of_its_flow_deletes_the_cookie(visitor, scripted_provider, issues):
    first = state_of(visitor.start())
    second = state_of(visitor.start())

    assert NAME not in visitor.come_back(state="foreign", code="code").cookies
    assert NAME not in visitor.come_back(state=first, code="code").cookies
    ended = visitor.come_back(state=second, error="access_denied").cookies[NAME]
    assert (ended.value, ended["path"]) == ("", callback_path("scripted"))


def test_another_state_or_garbage_in_the_cookie_is_no_flow(visitor, scripted, scripted_provider):
    start_and_overwrite(visitor)

    assert visitor.come_back(state="another", code="code").context["code"] == "state_unknown"
    visitor.client.cookies[NAME] = "garbage"
    assert visitor.come_back(state="another", code="code").context["code"] == "state_unknown"
    assert scripted.asked("/token") == []


def test_a_flow_that_is_too_large_for_a_cookie_has_no_copy(visitor, scripted_provider, monkeypatch):
    monkeypatch.setattr(flow_cookie, "MAX_SIZE", 500)

    assert NAME not in visitor.post("/oauth/scripted/connect/").cookies


def test_a_session_in_a_cookie_has_no_copy(settings, user, scripted_provider):
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"

    assert NAME not in Visitor(user).post("/oauth/scripted/connect/").cookies
