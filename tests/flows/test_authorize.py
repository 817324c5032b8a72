"""Where a flow begins, and whole flows against the real server."""

from __future__ import annotations

import base64
import hashlib
import threading
from importlib.resources import files
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.test.utils import override_script_prefix
from django.urls import reverse

from oauth_connect import flows, presets, signals
from oauth_connect.models import Connection, ConsumedState
from tests.servers.codeyard import CALLBACK
from tests.servers.scripted import Answer
from tests.support.visitor import Visitor, answer_of_codeyard, query_of, state_of
from tests.support.waiting import Tally

pytestmark = pytest.mark.django_db

PRESETS = sorted(
    Path(file.name).stem for file in files("oauth_connect.presets").iterdir() if file.name.endswith(".toml")
)


@pytest.mark.compliance("A3", "A5", "A8", "B2")
def test_a_user_connects_an_account_and_calls_its_api(codeyard, user, visitor):
    answer = answer_of_codeyard(visitor.start("codeyard", next="/reports/"))
    assert {"code", "state", "iss"} <= answer.keys()

    response = visitor.come_back("codeyard", **answer, foo="1")

    assert (response.status_code, response["Location"]) == (302, "/reports/")
    connection = Connection.objects.get()
    assert (connection.account_id, connection.account_label) == ("7", "ada")
    assert connection.scopes == ["profile", "repositories", "activity"]
    assert (connection.user, connection.connected_by, connection.status) == (user, user, "active")
    assert connection.redirect_uri == CALLBACK
    assert connection.session().get("user").json()["login"] == "ada"


@pytest.mark.compliance("A4")
def test_a_user_who_refuses_at_the_provider_connects_nothing(codeyard, visitor):
    answer = answer_of_codeyard(visitor.start("codeyard"), allow=False)
    assert answer["error"] == "access_denied"

    assert visitor.come_back("codeyard", **answer).status_code == 400
    assert not Connection.objects.exists()
    assert codeyard.stats["token_requests"] == {}


@pytest.mark.compliance("D10")
def test_a_stolen_code_is_refused_by_the_provider_in_another_session(codeyard, visitor, other_user):
    stolen = answer_of_codeyard(visitor.start("codeyard"))["code"]
    thief = Visitor(other_user)
    answer = answer_of_codeyard(thief.start("codeyard"), username="linus")

    response = thief.come_back("codeyard", **{**answer, "code": stolen})

    assert response.status_code == 502
    assert not Connection.objects.exists()


@pytest.mark.compliance("A1")
def test_states_are_long_and_never_alike(visitor, scripted_provider):
    states = {state_of(visitor.start()) for _ in range(20)}

    assert len(states) == 20
    assert all(len(base64.urlsafe_b64decode(state + "==")) >= 16 for state in states)


@pytest.mark.compliance("A1", "A5", "allauth 65.16.1")
@pytest.mark.parametrize("preset", PRESETS)
def test_no_preset_goes_without_state_or_pkce(preset, visitor, configure):
    data = presets.load(preset)
    variables = data.get("variables", {})
    examples = {name: one["example"] for name, one in variables.items() if one.get("example")}
    asked = {name for name, one in variables.items() if one.get("source") == "user"}
    typed = {name: value for name, value in examples.items() if name not in asked}
    client = {"client_id": "client", "client_secret": "secret", "hooks": {}}
    configure(PROVIDERS={preset: {**client, "variables": typed, "preset": {**data, "hooks": {}}}})

    query = query_of(visitor.start(preset, data={name: examples[name] for name in asked}))

    rules = data.get("authorize", {})
    assert len(query["state"]) >= 43
    if not rules.get("without_pkce_because"):
        method = rules.get("code_challenge_method", "S256")
        assert (len(query["code_challenge"]), query["code_challenge_method"]) == (43, method)
        assert method.upper() == "S256"


@pytest.mark.compliance("A5", "A6", "B2")
def test_each_start_has_its_own_challenge_of_the_verifier_that_is_sent(
    visitor, scripted, scripted_provider, issues
):
    challenges = []
    for _ in range(2):
        query = query_of(visitor.start())
        visitor.come_back(state=query["state"], code="code")
        assert query["code_challenge_method"] == "S256"
        challenges.append(query["code_challenge"])

    verifiers = [request.form["code_verifier"] for request in scripted.asked("/token")]
    assert all(43 <= len(verifier) <= 128 for verifier in verifiers)
    assert challenges == [unpadded_sha256(verifier) for verifier in verifiers]
    assert len(set(challenges)) == 2


def unpadded_sha256(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


@pytest.mark.compliance("B7", "B10", "D15")
def test_the_redirect_uri_never_comes_from_the_request(visitor, scripted, scripted_provider, issues):
    forged = {
        "HTTP_HOST": "evil.test",
        "HTTP_X_FORWARDED_HOST": "evil.test",
        "HTTP_FORWARDED": "host=evil.test",
    }
    response = visitor.post(reverse("oauth_connect:connect", args=["scripted"]), **forged)
    query = query_of(response["Location"])
    visitor.get("/oauth/scripted/callback/", {"state": query["state"], "code": "code"}, **forged)

    [exchange] = scripted.asked("/token")
    expected = "https://app.example/oauth/scripted/callback/"
    assert query["redirect_uri"] == exchange.form["redirect_uri"] == expected


@pytest.mark.compliance("B10")
@pytest.mark.parametrize(
    ("base_url", "origin"),
    [
        ("https://staging.example", "https://staging.example"),
        ("https://staging.example/", "https://staging.example"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        (lambda request: f"https://{request.method.lower()}.example", "https://post.example"),
    ],
)
def test_the_redirect_uri_follows_the_settings(base_url, origin, visitor, scripted_provider, configure):
    configure(BASE_URL=base_url)

    assert query_of(visitor.start())["redirect_uri"] == f"{origin}/oauth/scripted/callback/"


@pytest.mark.compliance("B7")
def test_the_redirect_uri_has_the_prefix_under_which_the_site_is_served(
    visitor, scripted, scripted_provider, issues
):
    with override_script_prefix("/desk/"):
        location = visitor.follow("/oauth/scripted/connect/")
        visitor.get("/oauth/scripted/callback/", {"state": state_of(location), "code": "code"})

    assert query_of(location)["redirect_uri"] == "https://app.example/desk/oauth/scripted/callback/"
    assert scripted.asked("/token")[0].form["redirect_uri"] == query_of(location)["redirect_uri"]


@pytest.mark.compliance("A11")
def test_the_exchange_repeats_the_redirect_uri_of_the_start(
    visitor, scripted, scripted_provider, issues, configure
):
    state = state_of(visitor.start())
    configure(BASE_URL="https://moved.example")
    visitor.come_back(state=state, code="code")

    assert scripted.asked("/token")[0].form["redirect_uri"] == "https://app.example/oauth/scripted/callback/"


@pytest.mark.parametrize("base_url", [None, "http://app.example", "https://app.example/path", "app.example"])
def test_without_a_usable_base_url_nothing_begins(
    base_url, visitor, scripted_provider, configure, in_production
):
    configure(BASE_URL=base_url)

    page = visitor.post("/oauth/scripted/connect/")

    assert (page.status_code, page.context["code"]) == (500, "invalid_settings")
    assert visitor.session.get("oauth_connect_pending") is None


@pytest.mark.parametrize("missing", ["authorization_endpoint", "enabled"])
def test_code_that_starts_a_flow_that_cannot_connect_gets_an_error(
    missing, visitor, user, scripted_entry, configure
):
    configure(PROVIDERS={"scripted": {**scripted_entry, missing: "" if missing != "enabled" else False}})
    request = visitor.request()
    request.user = user

    with pytest.raises(ImproperlyConfigured, match="authorization_endpoint"):
        flows.begin(request, "scripted")


def test_code_that_names_an_unknown_provider_gets_the_known_ones(visitor, user, scripted_provider):
    request = visitor.request()
    request.user = user

    with pytest.raises(ImproperlyConfigured, match=r"No provider 'nowhere'.*'scripted'"):
        flows.begin(request, "nowhere")


@pytest.mark.compliance("A40", "B4")
def test_scopes_asked_for_by_code_are_added_to_the_provider_s_own(visitor, user, scripted_entry, configure):
    configure(PROVIDERS={"scripted": {**scripted_entry, "scopes": ["read"]}})
    request = visitor.request()
    request.user = user

    assert query_of(flows.begin(request, "scripted", scopes=["write", "read"]))["scope"] == "read write"


@pytest.mark.compliance("A40", "B4")
@pytest.mark.parametrize(
    "query", [{"scopes": "admin"}, {"scope": "admin"}, {"scopes": '["scripted", ["admin"]]'}]
)
def test_what_is_written_into_the_address_widens_nothing(query, visitor, scripted_entry, configure):
    configure(PROVIDERS={"scripted": {**scripted_entry, "scopes": ["read"]}})

    assert query_of(visitor.start(**query))["scope"] == "read"
    assert query_of(visitor.start(data=query))["scope"] == "read"


@pytest.mark.compliance("A41")
def test_only_codes_are_asked_for(visitor, scripted_provider):
    assert query_of(visitor.start())["response_type"] == "code"


@pytest.mark.compliance("B1", "D3")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("engine", ["db", "signed_cookies"])  # with cookies, both are sure to see the entry
def test_a_callback_delivered_twice_in_parallel_is_exchanged_once(
    engine, user, scripted, scripted_provider, issues, settings
):
    """The provider answers the one once the three others have been led on. They lead to the same page."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    visitor = Visitor(user)
    state = state_of(visitor.start(next="/here/"))
    token = scripted.script["/token"][0]
    back = Tally("a window was sent back")
    scripted.on("/token", Answer(body=token.body, until=lambda: back.wait_for(3)))

    def come_back(window):
        response = window.come_back(state=state, code="code")
        back.add()
        return response["Location"]

    targets = at_once(come_back, [Visitor(cookies=visitor.client.cookies) for _ in range(4)])

    assert targets == ["/here/"] * 4
    assert len(scripted.asked("/token")) == 1
    assert Connection.objects.count() == ConsumedState.objects.count() == 1


def at_once(act, windows):
    barrier, results = threading.Barrier(len(windows)), []

    def run(window):
        barrier.wait()
        try:
            results.append(act(window))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(window,)) for window in windows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.django_db(transaction=True)
def test_the_signal_comes_once_the_connection_is_committed(user, scripted_provider, issues, canary):
    heard = []

    def receiver(sender, connection, **extra):
        heard.append((connection.pk, connections["default"].in_atomic_block, canary in repr(extra)))

    signals.connected.connect(receiver)
    try:
        Visitor(user).connect()
    finally:
        signals.connected.disconnect(receiver)

    assert heard == [(Connection.objects.get().pk, False, False)]


@pytest.mark.django_db(transaction=True)
def test_under_atomic_requests_the_state_stays_consumed_whatever_fails(
    user, scripted, scripted_provider, settings, monkeypatch
):
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    scripted.on("/token", Answer(body={"access_token": "a", "token_type": "Bearer"}))
    visitor = Visitor(user)
    state = state_of(visitor.start())

    def fail(*args, **kwargs):
        assert not connections["default"].in_atomic_block
        raise RuntimeError

    monkeypatch.setattr("oauth_connect.flows.authorize._store", fail)
    with pytest.raises(RuntimeError):
        visitor.come_back(state=state, code="code")

    assert ConsumedState.objects.count() == 1
    assert visitor.come_back(state=state, code="code").status_code == 502
    assert len(scripted.asked("/token")) == 1
