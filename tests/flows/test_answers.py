"""Answers that must not be acted upon: nothing is sent, nothing is changed, and the state is spent."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import connections

from oauth_connect.flows.pending import SESSION_KEY
from oauth_connect.models import Connection, ConsumedState, Owner
from tests.servers.scripted import Answer
from tests.support.visitor import Visitor, state_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def nothing_happens(scripted, make_connection, scripted_provider):
    """An account is connected already; it is as before, and the token endpoint was not asked."""
    before = make_connection(account_id="1")
    yield
    assert scripted.asked("/token") == []
    [row] = Connection.objects.all()
    assert (row.version, row.sealed_token, row.status) == (before.version, before.sealed_token, "active")


@pytest.mark.compliance("A1", "D1")
@pytest.mark.parametrize("query", [{}, {"state": ""}, {"state": "unknown"}, {"state": "x" * 4096}])
def test_without_a_state_of_this_session_nothing_happens(query, visitor, nothing_happens):
    visitor.start()

    assert visitor.come_back(**query, code="code").status_code == 400


@pytest.mark.compliance("A1", "D4", "CVE-2025-68158", "CVE-2025-68481")
def test_a_state_of_another_session_binds_nothing(visitor, other_user, user, nothing_happens):
    foreign = state_of(Visitor(other_user).start())
    own_other_session = state_of(Visitor(user).start())

    for state in (foreign, own_other_session):
        assert visitor.come_back(state=state, code="code").status_code == 400


@pytest.mark.compliance("A2", "D2")
@pytest.mark.parametrize("doubled", ["state", "code", "error", "iss"])
def test_a_repeated_parameter_is_refused(doubled, visitor, nothing_happens):
    state = state_of(visitor.start())
    query = {"state": state, "code": "code"}
    query[doubled] = [query.get(doubled, "x"), "evil"]

    assert visitor.come_back(**query).status_code == 400


@pytest.mark.compliance("A2")
def test_an_empty_parameter_counts_as_left_out(visitor, scripted, scripted_provider, issues):
    state = state_of(visitor.start())

    assert visitor.come_back(state=state, code="code", error="", iss="").status_code == 302


@pytest.mark.compliance("A3")
def test_unknown_parameters_are_ignored(visitor, scripted, scripted_provider, issues):
    state = state_of(visitor.start())

    assert (
        visitor.come_back(state=state, code="code", foo=["1", "2"], session_state="\x00").status_code == 302
    )


@pytest.mark.compliance("A4")
@pytest.mark.parametrize(
    "answer",
    [
        {"error": "access_denied"},
        {"error": "access_denied", "error_description": "The user said no.\r\nTrace: 17"},
        {"error": "server_error", "error_description": "é" * 3000},
        {"code": ""},
        {},
    ],
)
def test_an_answer_without_a_code_changes_nothing_and_spends_the_state(answer, visitor, nothing_happens):
    state = state_of(visitor.start())

    assert visitor.come_back(state=state, **answer).status_code == 400
    assert visitor.session[SESSION_KEY] == {}
    assert visitor.come_back(state=state, code="code").status_code == 400


@pytest.mark.compliance("A4")
@pytest.mark.parametrize(
    "changes",
    [
        {"variables": {"realm": {"source": "callback", "field": "realmId", "pattern": "[0-9]+"}}},
        {"callback": {"verify": "hmac_sha256_query"}},
    ],
    ids=["a variable of the callback", "a signed callback"],
)
def test_a_denial_needs_neither_a_signature_nor_a_variable(changes, visitor, scripted_entry, configure):
    configure(PROVIDERS={"scripted": {**scripted_entry, **changes}})
    state = state_of(visitor.start())

    assert visitor.come_back(state=state, error="access_denied").context["code"] == "access_denied"


@pytest.mark.compliance("A4")
def test_an_answer_that_is_both_a_success_and_an_error_is_refused(visitor, nothing_happens):
    state = state_of(visitor.start())

    assert visitor.come_back(state=state, code="code", error="access_denied").status_code == 400


@pytest.mark.compliance("A4")
def test_an_error_with_a_foreign_state_leaves_the_flow_under_way_alone(visitor, scripted_provider, issues):
    state = state_of(visitor.start())

    assert visitor.come_back(state="foreign", error="access_denied").status_code == 400
    assert visitor.come_back(state=state, code="code").status_code == 302


@pytest.mark.compliance("D3")
@pytest.mark.parametrize("status", [200, 400, 503])
def test_a_replayed_state_makes_no_second_request(status, visitor, scripted, scripted_provider):
    body = {"access_token": "access", "token_type": "Bearer"} if status == 200 else {"error": "invalid_grant"}
    scripted.on("/token", Answer(status, body))
    state = state_of(visitor.start())

    first = visitor.come_back(state=state, code="code")
    again = visitor.come_back(state=state, code="code")

    assert first.status_code == again.status_code == (302 if status == 200 else 502)
    assert len(scripted.asked("/token")) == 1


@pytest.mark.compliance("A7", "A9", "D9")
@pytest.mark.parametrize("client_id", ["client", "other"])
def test_an_answer_at_another_provider_s_address_is_refused(
    client_id, visitor, scripted, scripted_entry, configure, issues
):
    configure(PROVIDERS={"scripted": scripted_entry, "evil": {**scripted_entry, "client_id": client_id}})
    state = state_of(visitor.start("scripted"))

    assert visitor.come_back("evil", state=state, code="code").context["code"] == "other_provider"
    assert visitor.come_back("scripted", state=state, code="code").status_code == 400
    assert scripted.asked("/token") == []


@pytest.mark.compliance("A7")
@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "other"},
        {"issuer": "https://other.example"},
        {"token_endpoint": "https://other.example/token"},
        {"enabled": False},
    ],
)
def test_a_provider_that_was_changed_meanwhile_gets_no_code(
    changed, visitor, scripted, scripted_entry, scripted_provider, configure
):
    state = state_of(visitor.start())
    configure(PROVIDERS={"scripted": {**scripted_entry, **changed}})

    assert visitor.come_back(state=state, code="code").status_code in (400, 404)
    assert scripted.asked("/token") == []


ISSUER = "https://id.example"


@pytest.mark.compliance("A8", "D8")
@pytest.mark.parametrize(
    ("advertised", "iss"),
    [
        (True, None),
        (True, ""),
        (True, f"{ISSUER}/"),
        (True, "https://ID.example"),
        (True, [ISSUER, ISSUER]),
        (True, "https://evil.example"),
        (False, "https://evil.example"),
    ],
)
@pytest.mark.parametrize("outcome", [{"code": "code"}, {"error": "access_denied"}])
def test_an_answer_of_another_issuer_is_refused(
    advertised, iss, outcome, visitor, scripted, scripted_entry, configure
):
    entry = {**scripted_entry, "issuer": ISSUER}
    entry["authorization_response_iss_parameter_supported"] = advertised
    configure(PROVIDERS={"scripted": entry})
    state = state_of(visitor.start())
    answer = {"state": state, **outcome} | ({} if iss is None else {"iss": iss})

    response = visitor.come_back(**answer)

    assert response.status_code == 400
    assert response.context["code"] in ("issuer_missing", "issuer_mismatch", "repeated_parameter")
    assert scripted.asked("/token") == []


@pytest.mark.compliance("A8")
def test_the_issuer_itself_is_believed_advertised_or_not(visitor, scripted_entry, configure, issues):
    for advertised in (True, False):
        entry = {**scripted_entry, "issuer": ISSUER}
        entry["authorization_response_iss_parameter_supported"] = advertised
        configure(PROVIDERS={"scripted": entry})
        state = state_of(visitor.start())
        assert visitor.come_back(state=state, code="code", iss=ISSUER).status_code == 302


@pytest.mark.compliance("A10", "D12", "CVE-2022-25896")
def test_another_user_in_the_same_session_does_not_finish_the_flow(visitor, other_user, nothing_happens):
    """As where a site's login keeps the session's content; Django's own throws it away."""
    state = state_of(visitor.start())
    begun = visitor.session[SESSION_KEY]
    visitor.client.force_login(other_user)
    put_into_session(visitor, begun)

    response = visitor.come_back(state=state, code="code")

    assert (response.status_code, response.context["code"]) == (400, "other_user")
    assert SESSION_KEY not in visitor.session or visitor.session[SESSION_KEY] == {}


@pytest.mark.compliance("A10", "D4", "COAT")
def test_another_user_s_authorize_link_is_useless_in_a_victim_s_browser(visitor, other_user, nothing_happens):
    attackers_state = state_of(Visitor(other_user).start())

    assert visitor.come_back(state=attackers_state, code="the attacker's code").status_code == 400


@pytest.mark.compliance("D11")
def test_after_logging_out_the_state_is_dead_and_a_new_start_is_offered(visitor, nothing_happens):
    state = state_of(visitor.start())
    visitor.client.logout()

    response = visitor.come_back(state=state, code="code")

    assert response.status_code == 400
    assert b'href="/oauth/scripted/connect/"' in response.content


@pytest.mark.compliance("D11")
def test_no_flow_is_finished_while_logged_out(visitor, user, nothing_happens):
    state = state_of(visitor.start())
    begun = visitor.session[SESSION_KEY]
    visitor.client.logout()
    put_into_session(visitor, begun)

    assert visitor.come_back(state=state, code="code").context["code"] == "other_user"
    visitor.client.force_login(user)
    assert visitor.come_back(state=state, code="code").status_code == 400


@pytest.mark.compliance("D13")
def test_a_user_deactivated_meanwhile_does_not_finish_the_flow(visitor, user, nothing_happens):
    state = state_of(visitor.start())
    get_user_model().objects.filter(pk=user.pk).update(is_active=False)

    assert visitor.come_back(state=state, code="code").status_code == 400


@pytest.mark.compliance("D13")
def test_a_back_end_that_keeps_deactivated_users_signed_in_connects_none(
    visitor, user, settings, nothing_happens
):
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.AllowAllUsersModelBackend"]
    visitor.client.force_login(user)
    state = state_of(visitor.start())
    get_user_model().objects.filter(pk=user.pk).update(is_active=False)

    assert visitor.come_back(state=state, code="code").context["code"] == "user_inactive"
    assert visitor.post("/oauth/scripted/connect/").status_code == 403


@pytest.mark.compliance("D13")
@pytest.mark.django_db(transaction=True)
def test_a_user_deactivated_during_the_exchange_is_not_connected(
    visitor, user, scripted, scripted_entry, configure, issues
):
    configure(PROVIDERS={"scripted": {**scripted_entry, "revocation_endpoint": f"{scripted.url}/revoke"}})
    scripted.on("/revoke", Answer(200))
    state = state_of(visitor.start())

    def deactivate():
        get_user_model().objects.filter(pk=user.pk).update(is_active=False)
        connections.close_all()

    [answer] = scripted.script["/token"]
    scripted.on("/token", replace(answer, until=deactivate))
    response = visitor.come_back(state=state, code="code")

    assert response.context["code"] == "user_inactive"
    assert not Connection.objects.exists()
    assert len(scripted.asked("/revoke")) == 1


@pytest.mark.compliance("D18", "CVE-2022-25896")
def test_what_was_planted_before_the_login_is_of_no_use_after_it(visitor, other_user, user, nothing_happens):
    attacker = Visitor(other_user)
    state = state_of(attacker.start())
    victim = Visitor()
    victim.session.save()
    victim.client.cookies["sessionid"] = attacker.client.cookies["sessionid"].value  # a planted cookie
    victim.client.force_login(user)

    assert victim.come_back(state=state, code="code").status_code == 400


@pytest.mark.parametrize("changed", [Owner("org:2"), Owner("org:1", may_manage=False)])
def test_a_flow_is_not_finished_for_another_owner_or_without_the_right(
    changed, visitor, scripted, scripted_provider, configure
):
    configure(OWNER=lambda request: Owner("org:1"))
    state = state_of(visitor.start())
    configure(OWNER=lambda request: changed)

    response = visitor.come_back(state=state, code="code")

    assert (response.status_code, response.context["code"]) == (400, "other_owner")
    assert scripted.asked("/token") == []


@pytest.mark.compliance("D19")
@pytest.mark.parametrize("name", ["state", "code", "error", "iss"])
@pytest.mark.parametrize("value", ["a\x00b", "x" * 16384, "a\ud800b", "\u202e", "a\nb"])
def test_odd_parameters_are_refused_before_they_reach_the_database(name, value, visitor, nothing_happens):
    query = {"state": state_of(visitor.start()), "code": "code", name: value}
    if name == "error":
        del query["code"]
    encoded = "&".join(f"{key}={percent(text)}" for key, text in query.items())

    response = visitor.get(f"/oauth/scripted/callback/?{encoded}")

    assert response.status_code == 400
    assert len(response.content) < 4096


def percent(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))


@pytest.mark.compliance("D5")
def test_guessing_states_stores_nothing(visitor, nothing_happens):
    for guess in range(200):
        assert visitor.come_back(state=f"guess-{guess}", code="code").status_code == 400

    assert not ConsumedState.objects.exists()


def test_a_consumed_state_is_kept_as_a_hash_until_it_would_have_expired(visitor, scripted_provider, issues):
    state = state_of(visitor.start())
    visitor.come_back(state=state, code="code")

    [row] = ConsumedState.objects.all()
    assert state not in row.state_hash
    assert row.expires_at - Connection.objects.get().created_at <= timedelta(minutes=10)


def put_into_session(visitor: Visitor, entries: object) -> None:
    session = visitor.session
    session[SESSION_KEY] = entries
    session.save()
