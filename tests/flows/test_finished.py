"""The same response of a provider, sent twice by one browser: both requests lead to one place."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from django.db import connections

from oauth_connect.flows import authorize, finished
from oauth_connect.flows.pending import FINISHED_KEY
from oauth_connect.models import Connection
from oauth_connect.models.row import rows_of
from tests.servers.scripted import Answer
from tests.support.visitor import Visitor, state_of
from tests.support.waiting import TIMEOUT

SERVER_SIDE = ["db", "cache", "cached_db", "file"]
ENGINES = [*SERVER_SIDE, "signed_cookies"]
LARGEST_COOKIE = 4096


def use(settings, engine, tmp_path):
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_FILE_PATH = str(tmp_path)


@pytest.fixture(params=SERVER_SIDE)
def server_side(request, settings, tmp_path):
    use(settings, request.param, tmp_path)


@pytest.fixture(params=ENGINES)
def any_engine(request, settings, tmp_path):
    use(settings, request.param, tmp_path)
    return request.param


@pytest.fixture
def noted(settings):
    """Each request saves its session, so that a success is noted there too."""
    settings.SESSION_SAVE_EVERY_REQUEST = True


@pytest.fixture
def parallel():
    """Send requests in threads. Each thread closes its database connection."""
    with ThreadPoolExecutor(2) as pool:

        def submit(act, *args, **kwargs) -> Future:
            def run():
                try:
                    return act(*args, **kwargs)
                finally:
                    connections.close_all()

            return pool.submit(run)

        yield submit


@pytest.fixture
def second_waits(monkeypatch):
    """An event that is set when a request reads the session to learn how the other one ends."""
    waits = threading.Event()
    outcome = finished._outcome

    def seen(*args):
        waits.set()
        return outcome(*args)

    monkeypatch.setattr(finished, "_outcome", seen)
    return waits


@pytest.mark.django_db
def test_a_response_that_is_sent_again_leads_to_the_same_page_without_a_message(
    any_engine, user, scripted, scripted_provider, issues
):
    visitor = Visitor(user)
    state = state_of(visitor.start(next="/oauth/?here=1"))
    answers = [visitor.come_back(state=state, code="code") for _ in range(3)]

    assert [answer["Location"] for answer in answers] == ["/oauth/?here=1"] * 3
    assert len(scripted.asked("/token")) == 1
    assert visitor.get("/oauth/").content.count(b"scripted is connected.") == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "answer", "status", "code"),
    [
        ({"error": "access_denied"}, Answer(503), 400, "access_denied"),
        ({"code": "code"}, Answer(503), 502, "http_503"),
        ({"code": "code"}, Answer(401, {"error": "invalid_client"}), 502, "invalid_client"),
        ({"code": "code"}, Answer(400, {"error": "its_own_word"}), 502, "other_error"),
    ],
)
def test_a_refused_response_that_is_sent_again_shows_the_same_page(
    query, answer, status, code, visitor, scripted, scripted_provider
):
    scripted.on("/token", answer)
    state = state_of(visitor.start(next="/oauth/?here=1"))
    pages = [visitor.come_back(state=state, **query) for _ in range(2)]

    assert [page.status_code for page in pages] == [status] * 2
    assert {page.context["code"] for page in pages} == {code}
    assert pages[0].content == pages[1].content
    assert b"next=%2Foauth%2F%3Fhere%3D1" in pages[1].content


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("status", [200, 503])
def test_a_second_request_waits_for_the_first_and_ends_like_it(
    status, server_side, user, scripted, scripted_provider, issues, parallel, second_waits
):
    body = scripted.script["/token"][0].body
    scripted.on("/token", Answer(status, body, until=lambda: second_waits.wait(TIMEOUT)))
    visitor = Visitor(user)
    state = state_of(visitor.start(next="/here/"))

    first = parallel(visitor.come_back, state=state, code="code")
    scripted.wait_for("/token")
    second = Visitor(cookies=visitor.client.cookies).come_back(state=state, code="code")

    assert second.status_code == first.result().status_code == (302 if status == 200 else 502)
    assert second.get("Location") == first.result().get("Location")
    assert len(scripted.asked("/token")) == 1
    assert Connection.objects.count() == (status == 200)


@pytest.mark.django_db(transaction=True)
def test_a_second_request_does_not_wait_for_a_slow_provider(
    user, scripted, scripted_provider, issues, parallel, monkeypatch
):
    monkeypatch.setattr(finished, "WAIT", 0)
    answers = threading.Event()
    scripted.on("/token", Answer(body=scripted.script["/token"][0].body, hold=answers))
    visitor = Visitor(user)
    state = state_of(visitor.start(next="/here/"))

    first = parallel(visitor.come_back, state=state, code="code")
    scripted.wait_for("/token")
    second = Visitor(cookies=visitor.client.cookies).come_back(state=state, code="code")
    answers.set()

    assert second["Location"] == first.result()["Location"] == "/here/"


@pytest.mark.django_db(transaction=True)
def test_a_flow_that_another_tab_starts_meanwhile_is_kept(
    server_side, user, scripted, scripted_provider, issues, parallel
):
    answers = threading.Event()
    scripted.on("/token", Answer(body=scripted.script["/token"][0].body, hold=answers))
    visitor = Visitor(user)
    state = state_of(visitor.start())
    tab = Visitor(cookies=visitor.client.cookies)

    first = parallel(visitor.come_back, state=state, code="code")
    scripted.wait_for("/token")
    other = state_of(tab.start(next="/other/"))
    answers.set()
    first.result()

    assert tab.come_back(state=other, code="code")["Location"] == "/other/"


@pytest.mark.compliance("D3")
@pytest.mark.django_db
def test_another_session_and_another_user_are_led_nowhere(
    visitor, user, other_user, scripted, scripted_provider, issues
):
    query = {"state": state_of(visitor.start(next="/here/")), "code": "code"}
    visitor.come_back(**query)

    for someone in (Visitor(), Visitor(user), Visitor(other_user)):
        assert someone.come_back(**query).context["code"] == "state_unknown"
    visitor.client.force_login(other_user)
    assert visitor.come_back(**query).context["code"] == "state_unknown"
    assert len(scripted.asked("/token")) == 1


@pytest.mark.django_db
def test_another_user_in_the_same_session_is_led_nowhere(
    noted, visitor, other_user, scripted_provider, issues
):
    query = {"state": state_of(visitor.start(next="/here/")), "code": "code"}
    visitor.come_back(**query)
    session = visitor.session
    notes = session[FINISHED_KEY]
    visitor.client.force_login(other_user)
    session = visitor.session
    session[FINISHED_KEY] = notes
    session.save()

    assert visitor.come_back(**query).context["code"] == "state_unknown"


@pytest.mark.django_db
def test_the_response_of_one_provider_leads_nowhere_at_the_url_of_another(
    visitor, scripted_entry, configure, issues
):
    configure(PROVIDERS={"scripted": scripted_entry, "other": scripted_entry})
    query = {"state": state_of(visitor.start(next="/here/")), "code": "code"}
    visitor.come_back(**query)

    assert visitor.come_back("other", **query).context["code"] == "state_replayed"


@pytest.mark.django_db
def test_after_a_minute_a_noted_response_is_unknown(noted, visitor, scripted_provider, issues, monkeypatch):
    query = {"state": state_of(visitor.start(next="/here/")), "code": "code"}
    visitor.come_back(**query)
    monkeypatch.setattr(finished, "LIFETIME", 0)

    assert visitor.come_back(**query).context["code"] == "state_unknown"


@pytest.mark.django_db
def test_a_note_of_another_version_is_no_note(noted, visitor, scripted, scripted_provider, issues):
    state = state_of(visitor.start())
    visitor.come_back(state=state, code="code")
    session = visitor.session
    session[FINISHED_KEY] = {name: [*note, "new"] for name, note in session[FINISHED_KEY].items()}
    session.save()

    assert visitor.come_back(state=state, code="code").context["code"] == "state_unknown"


def test_an_unexpected_error_is_not_led_on_as_a_success(visitor, scripted_provider, issues, monkeypatch):
    monkeypatch.setattr("oauth_connect.flows.authorize._store", lambda *args: 1 / 0)
    query = {"state": state_of(visitor.start(next="/here/")), "code": "code"}
    with pytest.raises(ZeroDivisionError):
        visitor.come_back(**query)

    assert visitor.come_back(**query).status_code == 502


@pytest.mark.compliance("B3")
@pytest.mark.django_db
def test_the_notes_are_few_and_hold_no_secret(noted, visitor, scripted_provider, issues, canary):
    states = [state_of(visitor.start(next=f"/{number}/")) for number in range(4)]
    for state in states:
        visitor.come_back(state=state, code="the code")
    notes = visitor.session[FINISHED_KEY]

    assert len(notes) == finished.MAX_FINISHED
    assert not any(secret in json.dumps(notes) for secret in (*states, "the code", canary))
    assert visitor.come_back(state=states[3], code="the code")["Location"] == "/3/"


@pytest.mark.django_db
def test_notes_and_starts_fit_into_a_session_cookie(user, scripted_provider, issues, settings, tmp_path):
    use(settings, "signed_cookies", tmp_path)
    visitor = Visitor(user)
    for number in range(4):
        states = [state_of(visitor.start(next=f"/{number}/{'long/' * 60}")) for _ in range(2)]
        for answer in ({"code": "code"}, {"error": "invalid_scope"}):
            visitor.come_back(state=states.pop(), **answer)
            assert len(visitor.client.cookies["sessionid"].output(header="")) <= LARGEST_COOKIE


@pytest.mark.django_db
def test_a_target_on_another_site_is_never_followed(noted, visitor, scripted_provider, issues):
    query = {"state": state_of(visitor.start(next="//evil.test/")), "code": "code"}
    visitor.come_back(**query)
    session = visitor.session
    for entry in session[FINISHED_KEY].values():
        entry[3] = "https://evil.test/"
    session.save()

    assert visitor.come_back(**query)["Location"] == "/oauth/"


@pytest.mark.django_db(transaction=True)
def test_a_second_request_waits_for_a_new_consent_and_not_for_a_refresh(
    server_side, user, scripted, scripted_provider, issues, make_connection, parallel, monkeypatch
):
    """The owner has a connection, and a job refreshes it while the provider is asked. That is no end."""
    connection = make_connection()
    answers, looked = threading.Event(), threading.Event()
    scripted.on("/token", Answer(body=scripted.script["/token"][0].body, hold=answers))
    visitor = Visitor(user)
    state = state_of(visitor.start(next="/here/"))
    has_connected = finished._has_connected

    def seen(*args):
        found = has_connected(*args)
        looked.set()
        return found

    first = parallel(visitor.come_back, state=state, code="code")
    scripted.wait_for("/token")
    now = datetime.now(UTC)
    rows_of(Connection, "default").filter(pk=connection.pk).update(last_refreshed_at=now, updated_at=now)
    monkeypatch.setattr(finished, "_has_connected", seen)
    second = parallel(Visitor(cookies=visitor.client.cookies).come_back, state=state, code="code")
    assert looked.wait(TIMEOUT)
    assert not second.done()
    answers.set()

    assert second.result()["Location"] == first.result()["Location"] == "/here/"


@pytest.mark.django_db
@pytest.mark.parametrize("storage", ["session.SessionStorage", "fallback.FallbackStorage"])
def test_a_message_in_the_session_undoes_no_start_of_another_tab(
    storage, user, scripted, scripted_provider, issues, settings, monkeypatch
):
    """The session is saved as a whole at the end, and this request has loaded it before the other start."""
    settings.MESSAGE_STORAGE = f"django.contrib.messages.storage.{storage}"
    visitor = Visitor(user)
    states = [state_of(visitor.start(next=f"/{number}/")) for number in range(2)]
    others: list[str] = []
    store = authorize._store

    def while_another_tab_starts(*args):
        tab = Visitor(cookies=visitor.client.cookies)
        others.extend(state_of(tab.start(next=f"/other{number}/")) for number in range(2))
        return store(*args)

    monkeypatch.setattr(authorize, "_store", while_another_tab_starts)
    visitor.come_back(state=states.pop(), code="code")
    monkeypatch.undo()

    answers = [visitor.come_back(state=state, code="code")["Location"] for state in (*states, *others)]
    assert answers == ["/0/", "/other0/", "/other1/"]
