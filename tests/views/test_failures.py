"""Faults of settings and providers: what users read, what developers read, and what the log says."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from oauth_connect.errors import ForbiddenDestination
from oauth_connect.views.failures import failure_of
from tests.servers.scripted import Answer
from tests.support.discovery import WELL_KNOWN
from tests.support.visitor import Visitor, state_of

pytestmark = pytest.mark.django_db

CONNECT = "/oauth/scripted/connect/"
BOX = b"For developers"


@pytest.fixture
def staff(user):
    user.is_staff = True
    user.save()
    return Visitor(user)


@pytest.fixture
def issuer(scripted, configure):
    """Configure a provider by its issuer alone."""

    def change(issuer=scripted.url):
        entry = {"issuer": issuer, "client_id": "client", "client_secret": "secret", "api_base_url": issuer}
        configure(PROVIDERS={"scripted": entry})

    change()
    return change


@pytest.fixture
def views_log(caplog):
    """Return the one record of the views."""
    return lambda: next(record for record in caplog.records if record.name == "oauth_connect.views")


def no_key(visitor, configure):
    configure(KEYS=[])
    return visitor.post(CONNECT)


# --- what users read ------------------------------------------------------------------------------


def test_a_missing_key_is_not_blamed_on_the_provider(visitor, scripted_provider, configure, views_log):
    page = no_key(visitor, configure)

    assert page.status_code == 500
    assert b"This site is not set up completely" in page.content
    assert b"provider" not in page.content.lower()
    record = views_log()
    assert (record.levelname, record.action) == ("ERROR", "site_misconfigured")
    assert "Set OAUTH_CONNECT" in record.getMessage()


def test_a_wrong_base_url_is_not_a_crash(visitor, scripted_provider, configure, in_production, views_log):
    configure(BASE_URL="app.example")

    page = visitor.post(CONNECT)

    assert page.status_code == 500
    assert b"This site is not set up completely" in page.content
    assert b"BASE_URL" not in page.content
    record = views_log()
    assert (record.action, record.code) == ("site_misconfigured", "invalid_settings")
    assert "BASE_URL" in record.getMessage()
    assert "has no scheme" in record.getMessage()


def test_a_key_that_is_missing_at_the_callback_is_not_blamed_on_the_browser(
    visitor, scripted_provider, configure
):
    state = state_of(visitor.start())
    configure(KEYS=[])

    page = visitor.come_back(state=state, code="code")

    assert page.status_code == 500
    assert page.context["code"] == "key_unavailable"


def test_a_secret_that_is_not_accepted_is_not_a_problem_of_the_moment(visitor, scripted, scripted_provider):
    scripted.on("/token", Answer(401, {"error": "invalid_client"}))
    assert b"this site&#x27;s settings do not match it" in visitor.connect().content


def test_a_provider_that_is_down_may_be_tried_later(visitor, scripted, scripted_provider):
    scripted.on("/token", Answer(503))
    assert b"Try again later" in visitor.connect().content


def test_asked_for_json_the_answer_is_the_code(visitor, scripted_provider, configure):
    configure(KEYS=[])
    response = visitor.post(CONNECT, headers={"Accept": "application/json"})
    assert (response.status_code, response.json()) == (500, {"error": "key_unavailable"})


LACKS_A_VARIABLE = {
    "client_id": "client",
    "client_secret": "secret",
    "authorization_endpoint": "https://{domain}/authorize",
    "token_endpoint": "https://{domain}/token",
    "api_base_url": "https://{domain}/",
    "variables": {"domain": {"source": "config", "pattern": "[a-z]+\\.example"}},
}
USERS_VARIABLE = {"room": {"source": "user", "pattern": "[a-z]+"}}


@pytest.mark.parametrize("typed", [{}, {"room": "green"}], ids=["nothing", "another variable"])
def test_a_variable_that_the_entry_lacks_is_the_sites_fault(typed, staff, user, configure, views_log):
    variables = LACKS_A_VARIABLE["variables"] | (USERS_VARIABLE if typed else {})
    configure(PROVIDERS={"scripted": {**LACKS_A_VARIABLE, "variables": variables}})

    page = staff.post(CONNECT, typed)

    assert page.status_code == 500
    assert b"This site is not set up completely" in page.content
    box = page.context["developers"]
    assert (box["code"], box["sentence"]) == ("invalid_settings", "scripted.variables.domain: missing")
    assert views_log().action == "site_misconfigured"
    response = staff.post(CONNECT, typed, headers={"Accept": "application/json"})
    assert (response.status_code, response.json()) == (500, {"error": "invalid_settings"})


# --- the box for developers -----------------------------------------------------------------------


def test_five_faults_have_five_boxes(staff, scripted, issuer, configure):
    """A key, a secret, an issuer, a slash and a provider: each box names another thing to correct."""
    url = scripted.url
    endpoints = {"authorization_endpoint": f"{url}/authorize", "token_endpoint": f"{url}/token"}
    boxes = {}

    scripted.on(WELL_KNOWN, Answer(404))
    boxes["issuer"] = staff.post(CONNECT).context["developers"]
    issuer(f"{url}/")
    scripted.on(WELL_KNOWN, Answer(body={"issuer": url, **endpoints}))
    boxes["slash"] = staff.post(CONNECT).context["developers"]
    issuer("http://127.0.0.1:1")
    boxes["down"] = staff.post(CONNECT).context["developers"]
    configure(PROVIDERS={"scripted": {"client_id": "client", "client_secret": "secret", **endpoints}})
    scripted.on("/token", Answer(401, {"error": "invalid_client", "error_description": "no such client"}))
    boxes["secret"] = staff.connect().context["developers"]
    configure(KEYS=[])
    boxes["key"] = staff.post(CONNECT).context["developers"]

    expected = {
        "issuer": ("http_404", "publishes no metadata"),
        "slash": ("issuer_mismatch", "another issuer"),
        "down": ("connection_refused", "cannot be reached"),
        "secret": ("invalid_client", "client_secret"),
        "key": ("key_unavailable", "Create one with"),
    }
    assert {name: box["code"] for name, box in boxes.items()} == {
        name: code for name, (code, _) in expected.items()
    }
    for name, (_, words) in expected.items():
        assert words in boxes[name]["sentence"]
        assert boxes[name]["command"] == "python manage.py oauth_doctor scripted --online"
    assert boxes["secret"]["description"] == "no such client"


@pytest.mark.parametrize(
    ("debug", "is_staff", "is_shown"), [(True, False, True), (False, True, True), (False, False, False)]
)
def test_the_box_is_for_staff_and_under_debug(
    debug, is_staff, is_shown, user, scripted, scripted_provider, settings
):
    settings.DEBUG = debug
    user.is_staff = is_staff
    user.save()
    scripted.on("/token", Answer(401, {"error": "invalid_client"}))

    page = Visitor(user).connect()

    assert (BOX in page.content) is is_shown
    assert (b"Compare client_id, client_secret" in page.content) is is_shown


def test_a_signed_out_visitor_sees_no_box(scripted_provider):
    assert BOX not in Visitor().come_back(state="unknown", code="code").content


def test_a_refused_callback_has_a_box_too(staff, scripted_provider):
    page = staff.come_back(state="unknown", code="code")
    assert page.context["developers"]["code"] == "state_unknown"
    assert BOX in page.content


def test_a_response_without_a_session_says_why_the_cookie_may_be_missing(settings, scripted_provider, staff):
    settings.DEBUG = True
    page = Visitor().come_back(state="unknown", code="code")
    assert "localhost is not 127.0.0.1" in page.context["developers"]["sentence"]
    page = staff.come_back(state="unknown", code="code")
    assert "127.0.0.1" not in page.context["developers"]["sentence"]


def test_the_box_names_the_endpoint_that_failed(staff, scripted, scripted_provider):
    scripted.on("/token", Answer(404))

    page = staff.connect()

    assert b"<code>http_404</code> \xc2\xb7 <code>token_endpoint</code>" in page.content


@pytest.mark.compliance("D45")
def test_box_and_log_show_neither_a_secret_nor_the_response(staff, scripted, scripted_provider, caplog):
    state = state_of(staff.start())
    described = f"the code canary-code of {state} was refused, client_secret=secretcanary"
    scripted.on("/token", Answer(400, {"error": "invalid_grant", "error_description": described}))

    page = staff.come_back(state=state, code="canary-code")

    assert "was refused" in page.context["developers"]["description"]
    for shown in (page.content.decode(), caplog.text):
        assert [word for word in ("canary-code", state, "secretcanary") if word in shown] == []


def test_a_code_is_logged_once(visitor, scripted_provider, views_log):
    visitor.come_back(state=state_of(visitor.start()), error="access_denied")
    assert views_log().getMessage().count("access_denied,") == 0


@pytest.mark.compliance("D45")
@pytest.mark.parametrize("described", [f"{'word ' * 55}canary/code refused", "no canary%2Fcode"])
def test_the_box_shows_no_part_of_a_code_that_is_cut_or_encoded(
    described, staff, scripted, scripted_provider
):
    code = f"canary/code{'x' * 40}"
    described = described.replace("canary/code", code).replace("canary%2Fcode", quote(code, safe=""))
    scripted.on("/token", Answer(400, {"error": "invalid_grant", "error_description": described}))

    page = staff.come_back(state=state_of(staff.start()), code=code)

    assert "canary" not in page.context["developers"]["description"]


@pytest.mark.compliance("D45")
def test_box_and_log_show_no_state_that_an_error_response_quotes(staff, scripted_provider, views_log):
    state = state_of(staff.start())
    page = staff.come_back(state=state, error="invalid_request", error_description=f"Odd: {state}")

    for text in (page.context["developers"]["sentence"], views_log().getMessage()):
        assert "Odd: [masked]" in text
        assert state not in text


def test_box_and_log_name_the_setting_that_sends_the_secret_otherwise(
    staff, scripted, scripted_provider, views_log
):
    scripted.on("/token", Answer(401, {"error": "invalid_client"}))
    page = staff.connect()
    for text in (page.context["developers"]["sentence"], views_log().getMessage()):
        assert 'token_request.basic = "raw"' in text


@pytest.mark.compliance("D45")
def test_a_providers_own_code_is_named_and_its_sentence_is_not_logged(
    staff, scripted, scripted_provider, caplog, views_log
):
    scripted.on("/token", Answer(400, {"error": "canary_error", "error_description": "canary-words"}))
    page = staff.connect()
    assert (page.context["code"], page.context["error"]) == ("other_error", "canary_error")
    assert views_log().error == "canary_error"
    assert "canary-words" not in caplog.text


@pytest.mark.parametrize(
    ("path", "answer", "words"),
    [
        ("/token", Answer(401), "either the client (client_id, client_secret"),
        (
            "/token",
            Answer(401, {"error_description": "canary-words"}),
            "set scripted.token_response.error_field",
        ),
        ("/user", Answer(403, {"message": "canary-words"}), "Compare endpoints and scopes"),
        (
            "/token",
            Answer(400, {"error": "invalid_grant", "error_description": "canary-words"}),
            "invalid_grant.",
        ),
    ],
)
def test_box_and_log_say_what_to_do_about_a_refusal(
    path, answer, words, staff, scripted, scripted_provider, issues, configure, views_log
):
    entry = {
        **scripted_provider,
        "userinfo_endpoint": f"{scripted.url}/user",
        "identity": {"source": "userinfo", "id": ["id"]},
    }
    configure(PROVIDERS={"scripted": entry})
    scripted.on("/user", Answer(body={"id": 1}))
    scripted.on(path, answer)
    sentence = staff.connect().context["developers"]["sentence"]
    assert words in sentence
    assert ". ." not in sentence
    assert views_log().getMessage().endswith(sentence)
    assert "canary-words" not in sentence


def test_an_error_of_this_package_is_no_word_of_the_provider():
    assert failure_of(ForbiddenDestination("Elsewhere.")).error == ""


def test_the_log_has_the_sentence_of_the_box(staff, scripted, scripted_provider, views_log):
    scripted.on("/token", Answer(401, {"error": "invalid_client"}))
    page = staff.connect()
    record = views_log()
    assert page.context["developers"]["sentence"] in record.getMessage()
    assert (record.action, record.code) == ("callback_refused", "invalid_client")


@pytest.mark.parametrize(
    ("token", "userinfo", "said"),
    [
        (Answer(401), None, "token_response.error_field"),
        (
            Answer(body={"access_token": "a", "token_type": "Bearer"}),
            Answer(204),
            "userinfo_endpoint and scopes",
        ),
    ],
    ids=["a 401 that says nothing", "a userinfo that is empty"],
)
def test_the_log_says_what_to_compare_after_a_refusal_without_words(
    visitor, scripted, scripted_entry, configure, views_log, token, userinfo, said
):
    configure(PROVIDERS={"scripted": {**scripted_entry, "userinfo_endpoint": f"{scripted.url}/userinfo"}})
    scripted.on("/token", token)
    scripted.on("/userinfo", userinfo or Answer(500))
    visitor.connect()
    assert said in views_log().getMessage()
