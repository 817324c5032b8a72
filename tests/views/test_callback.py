from __future__ import annotations

import logging
from urllib.parse import urlencode

import pytest

from oauth_connect.models import Connection
from tests.servers.scripted import Answer
from tests.support.visitor import Visitor, callback_path, state_of

pytestmark = pytest.mark.django_db


def test_success_leads_on_and_says_so(visitor, scripted_provider, issues):
    response = visitor.connect(next="/oauth/?from=connect")

    assert (response.status_code, response["Location"]) == (302, "/oauth/?from=connect")
    assert b"scripted is connected." in visitor.get("/oauth/").content


def test_a_page_that_asks_to_connect_again_does_not_say_that_the_account_is_connected(
    visitor, scripted_provider, issues
):
    visitor.connect(next="/a-page-without-messages/")
    connection = Connection.objects.get()
    page = visitor.get("/oauth/scripted/connect/", {"connection": connection.pk}).content

    assert b"You will be sent to" in page
    assert b"is connected." not in page
    assert b"is connected." not in visitor.get("/oauth/").content


def test_without_a_target_success_leads_to_the_connections(visitor, scripted_provider, issues):
    assert visitor.connect()["Location"] == "/oauth/"


@pytest.mark.compliance("A42")
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"error": "access_denied"}, b"You did not give this site access"),
        ({"error": "server_error"}, b"temporary problem. Try again later"),
        ({"error": "invalid_scope"}, b"operators of this site can correct it"),
        ({"error": "user_is_asleep"}, b"could not give access"),
        ({"state": "unknown"}, b"already ended"),
    ],
)
def test_a_refusal_is_a_page_that_offers_a_new_start(answer, words, visitor, scripted_provider):
    page = visitor.come_back(**{"state": state_of(visitor.start()), **answer})

    assert page.status_code == 400
    assert words in page.content
    assert page.content.count(b"othing has been changed") == 1
    assert b'href="/oauth/scripted/connect/"' in page.content


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500),
        Answer(503, headers={"Retry-After": "1"}),
        Answer(401, {"error": "invalid_client"}),
        Answer(400, {"error": "invalid_grant"}),
        Answer(200, {"error": "bad_verification_code"}),
        Answer(307, headers={"Location": "http://127.0.0.1:1/"}),
        Answer(200, b"<html>", headers={"Content-Type": "text/html"}),
        Answer(cut=-1),
    ],
    ids=repr,
)
def test_a_provider_that_fails_gets_a_page_and_connects_nothing(answer, visitor, scripted, scripted_provider):
    scripted.on("/token", answer)

    page = visitor.connect()

    assert page.status_code == 502
    assert b"could not complete the connection" in page.content
    assert page.content.count(b"othing has been changed") == 1
    assert not Connection.objects.exists()
    assert len(scripted.asked("/token")) == 1


@pytest.mark.compliance("D19", "D60")
def test_nothing_that_came_with_the_answer_is_shown(visitor, scripted_provider):
    evil = "<script>alert(1)</script>"
    state = state_of(visitor.start())

    for query in (
        {"state": state, "error": evil, "error_description": evil, "error_uri": "https://evil.test/"},
        {"state": evil, "code": evil},
        {"state": "x", "error": "access_denied", "error_description": "Call 555-0100 to mend this"},
    ):
        content = visitor.come_back(**query).content
        assert not any(words in content for words in (b"<script", b"evil.test", b"555-0100"))


@pytest.mark.parametrize("method", ["head", "put", "delete"])
def test_only_get_is_an_answer(method, visitor, scripted, scripted_provider, issues):
    state = state_of(visitor.start())
    query = {"state": state, "code": "code"}

    response = getattr(visitor.client, method)("/oauth/scripted/callback/", query_params=query, secure=True)

    assert response.status_code == 405
    assert scripted.asked("/token") == []
    assert visitor.come_back(**query).status_code == 302


@pytest.mark.parametrize("slug", ["scripted", "nowhere"])
def test_a_callback_without_a_flow_is_a_page_for_every_visitor(slug, visitor, scripted_provider):
    for someone in (visitor, Visitor()):
        page = someone.come_back(slug)
        assert page.status_code == 400
        assert page["Referrer-Policy"] == "strict-origin"


@pytest.mark.parametrize("slug", ["scripted", "nowhere"])
def test_a_post_is_a_redirect_to_the_same_page_and_looks_nothing_up(
    slug, scripted_provider, configure, django_assert_num_queries
):
    configure(PROVIDER_LOADER=lambda slug, owner: pytest.fail("a loader is asked"))
    with django_assert_num_queries(0):
        posted = Visitor().post(f"/oauth/{slug}/callback/?x=1", {"state": "s", "code": "c", "realmId": "7"})

    assert posted.status_code == 303
    assert posted["Location"] == f"/oauth/{slug}/callback/?state=s&code=c&realmId=7"
    assert posted["Referrer-Policy"] == "strict-origin"


def test_a_redirect_has_no_token_and_no_personal_data_in_its_url(db):
    posted = Visitor().post(
        "/oauth/x/callback/", {"state": "s", "id_token": "t", "access_token": "t", "user": "u"}
    )

    assert posted["Location"] == "/oauth/x/callback/?state=s"


def test_a_posted_answer_that_is_too_long_for_a_url_still_ends_the_flow(visitor, scripted_provider):
    state = state_of(visitor.start())

    posted = visitor.post("/oauth/scripted/callback/", {"code": "c" * 7000, "state": state})

    assert visitor.get(posted["Location"]).status_code == 400
    assert visitor.come_back(state=state, code="c").context["code"] == "authorization_failed"


@pytest.mark.compliance("B3")
def test_a_refusal_is_logged_by_its_code_and_nothing_else(visitor, scripted_provider, caplog):
    caplog.set_level(logging.DEBUG)
    state = state_of(visitor.start())
    visitor.come_back(state=state, code="the code", iss=["a", "b"])

    [record] = [record for record in caplog.records if record.name == "oauth_connect.views"]
    assert (record.code, record.provider) == ("repeated_parameter", "scripted")
    assert state not in caplog.text
    assert "the code" not in caplog.text


def logged(caplog):
    [record] = [record for record in caplog.records if record.name == "oauth_connect.views"]
    return record


def test_the_providers_word_is_in_the_log_and_on_the_page(visitor, scripted_provider, caplog):
    state = state_of(visitor.start())
    answer = {"error": "invalid_scope", "error_description": "no such scope\n<b>"}
    page = visitor.come_back(state=state, **answer)

    record = logged(caplog)
    assert (record.action, record.error) == ("callback_refused", "invalid_scope")
    for part in ("invalid_scope", "no such scope", "https://app.example/oauth/scripted/callback/"):
        assert part in record.getMessage()
    assert b"<code>invalid_scope</code>" in page.content
    assert b"no such scope" not in page.content


def test_an_error_without_a_flow_is_in_the_log_alone(visitor, scripted_provider, caplog):
    page = visitor.come_back(error="admin_policy_enforced", error_description="blocked")

    assert logged(caplog).error == "admin_policy_enforced"
    assert "admin_policy_enforced" in logged(caplog).getMessage()
    assert "blocked" not in caplog.text
    assert b"admin_policy_enforced" not in page.content


def test_a_token_in_place_of_an_error_code_is_nowhere(visitor, scripted_provider, caplog):
    token = "gho_16C7e42F292c6912E7710c838347Ae178B4a"
    for state in (state_of(visitor.start()), "unknown"):
        page = visitor.come_back(state=state, error=token)
        assert token.encode() not in page.content
    assert token not in caplog.text


@pytest.mark.parametrize("endpoint", ["token_endpoint", "userinfo_endpoint"])
def test_the_request_that_failed_is_named_in_the_log(
    endpoint, visitor, scripted, scripted_entry, configure, issues, caplog
):
    userinfo = {"userinfo_endpoint": f"{scripted.url}/userinfo", "identity": {"source": "userinfo"}}
    configure(PROVIDERS={"scripted": {**scripted_entry, **userinfo}})
    scripted.on("/revoke", Answer(200))
    for path in ("/userinfo", *(["/token"] if endpoint == "token_endpoint" else [])):
        scripted.on(path, Answer(503))

    assert visitor.connect().status_code == 502
    assert logged(caplog).endpoint == endpoint
    assert f"http_503, {endpoint}" in logged(caplog).getMessage()


def test_the_labels_of_accounts_are_not_logged(
    visitor, scripted_entry, configure, make_connection, issues, caplog
):
    identity = {"source": "token_response", "id": ["account"], "label": ["account"]}
    configure(PROVIDERS={"scripted": {**scripted_entry, "identity": identity}})
    connection = make_connection(account_id="ada@example.com", account_label="ada@example.com")
    issues(account="linus@example.com")

    assert visitor.connect(connection=connection.pk).context["code"] == "other_account"
    assert "example.com" not in logged(caplog).getMessage()


@pytest.mark.compliance("D45")
def test_the_request_keeps_neither_code_nor_state_for_a_report(visitor, scripted, scripted_provider):
    """Django mails the request of a response with a status of 5xx."""
    scripted.on("/token", Answer(503))
    path = callback_path("scripted")
    url = f"{path}?{urlencode({'code': 'canary', 'state': state_of(visitor.start())})}"

    response = visitor.client.get(url, secure=True, RAW_URI=url, REQUEST_URI=url)

    assert response.status_code == 502
    request = response.wsgi_request
    assert "canary" not in f"{request.META}{request.GET}{request.build_absolute_uri()}"
