"""The requests of the client, and the responses that it reads, over real sockets."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from oauth_connect.errors import CallbackRefused, ProviderMisconfigured, ProviderRejected, ProviderUnavailable
from tests.protocol.calls import HELD, asked_once, exchange
from tests.servers.scripted import Answer
from tests.support.tokens import FRESH, id_token

BASIC = "Basic " + base64.b64encode(b"client:secret").decode()
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
HTML = {"Content-Type": "text/html"}

# --- requests -----------------------------------------------------------------------------------


@pytest.mark.compliance("A11")
@pytest.mark.compliance("B2")
def test_an_exchange_posts_the_code_with_what_the_flow_began_with(scripted, client) -> None:
    scripted.on("/token", Answer(body=FRESH))
    token = exchange(client())
    request = asked_once(scripted, "/token")
    assert (request.method, request.query) == ("POST", {})
    assert request.form == {
        "grant_type": "authorization_code",
        "code": "the code",
        "redirect_uri": "https://app.example/cb",
        "code_verifier": "v" * 43,
    }
    assert (token.access_token, token.refresh_token) == ("access-1", "refresh-1")


@pytest.mark.compliance("A18")
@pytest.mark.compliance("D29")
@pytest.mark.parametrize(
    ("answered", "kept"),
    [({}, "canary-refresh"), ({"refresh_token": ""}, "canary-refresh"), ({"refresh_token": "new"}, "new")],
)
def test_a_refresh_keeps_or_replaces_the_refresh_token(scripted, client, answered, kept) -> None:
    scripted.on("/token", Answer(body={"access_token": "a", "token_type": "Bearer", **answered}))
    token = client().refresh(HELD)
    assert token.refresh_token == kept
    assert token.scopes == ("x",)
    assert asked_once(scripted, "/token").form == {
        "grant_type": "refresh_token",
        "refresh_token": "canary-refresh",
    }


# --- responses ----------------------------------------------------------------------------------

OTHER_TYPES = pytest.mark.parametrize(
    "content_type", ["text/plain; charset=utf-8", "text/html", "", "x", FORM["Content-Type"]]
)


@OTHER_TYPES
def test_a_token_in_json_of_another_content_type_is_not_lost(scripted, client, content_type) -> None:
    scripted.on("/token", Answer(body=FRESH, headers={"Content-Type": content_type}))
    assert client().refresh(HELD).refresh_token == "refresh-1"


def test_a_token_type_that_a_refresh_leaves_out_is_the_one_the_token_had(scripted, client) -> None:
    scripted.on("/token", Answer(body={"access_token": "a", "refresh_token": "refresh-1"}))
    server = client(token_response={"token_types": ["bearer", "pop"]})
    token = server.refresh(replace(HELD, token_type="pop"))
    assert (token.token_type, token.refresh_token) == ("pop", "refresh-1")


def test_a_token_type_that_a_first_response_leaves_out_is_not_assumed(scripted, client) -> None:
    scripted.on("/token", Answer(body={"access_token": "a", "refresh_token": "refresh-1"}))
    with pytest.raises(ProviderMisconfigured, match=r"token_response\.token_type_required"):
        exchange(client())


@OTHER_TYPES
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("invalid_grant", ProviderRejected),
        ("authorization_pending", ProviderRejected),
        ("invalid_client", ProviderMisconfigured),
        ("temporarily_unavailable", ProviderUnavailable),
    ],
)
def test_an_error_of_another_content_type_is_the_error_that_it_names(
    scripted, client, content_type, code, error
) -> None:
    headers = {"Content-Type": content_type}
    scripted.on("/token", Answer(400, {"error": code, "error_description": "words"}, headers))
    with pytest.raises(error) as raised:
        client().refresh(HELD)
    assert raised.value.code == code


@OTHER_TYPES
def test_userinfo_and_refusals_to_revoke_are_read_with_another_content_type(
    scripted, client, content_type
) -> None:
    headers = {"Content-Type": content_type}
    scripted.on("/userinfo", Answer(body={"sub": "7"}, headers=headers))
    scripted.on("/revoke", Answer(400, {"error": "unsupported_token_type"}, headers))
    assert client().userinfo(HELD) == {"sub": "7"}
    with pytest.raises(ProviderRejected, match="unsupported_token_type"):
        client().revoke(HELD)


def test_a_lifetime_counts_from_the_start_of_the_request(scripted, client) -> None:
    arrived: list[datetime] = []
    scripted.on("/token", Answer(body=FRESH, until=lambda: arrived.append(datetime.now(UTC))))
    server = client()
    before = datetime.now(UTC)
    token = exchange(server)
    assert before <= token.obtained_at <= arrived[0]
    assert token.expires_at == token.obtained_at + timedelta(hours=1)


@pytest.mark.compliance("D21")
def test_a_form_encoded_answer_is_read(scripted, client) -> None:
    body = b"access_token=a%2Bb&token_type=bearer&scope=x"
    scripted.on("/token", Answer(body=body, headers=FORM))
    assert exchange(client()).access_token == "a+b"


@pytest.mark.compliance("D20")
def test_an_error_with_status_200_is_raised(scripted, client) -> None:
    scripted.on("/token", Answer(body={"error": "bad_verification_code", "error_description": "no"}))
    with pytest.raises(ProviderRejected) as rejected:
        exchange(client())
    assert (rejected.value.error, rejected.value.description) == ("bad_verification_code", "no")


@pytest.mark.compliance("D58")
def test_a_long_token_arrives_whole(scripted, client) -> None:
    long = "x" * 32_768
    scripted.on("/token", Answer(body={**FRESH, "access_token": long, "refresh_token": long}))
    token = exchange(client())
    assert (token.access_token, token.refresh_token) == (long, long)


BAD_BODIES = {
    "html": Answer(body=b"<html>canary-body</html>", headers=HTML),
    "empty": Answer(body=b""),
    "no content": Answer(204, body=b""),
    "array": Answer(body=["canary-body"]),
    "text": Answer(body="canary-body"),
    "truncated": Answer(body=b'{"access_token": "canary-body'),
    "a form that says json": Answer(body=b"access_token=canary-body"),
    "no token": Answer(body={}),
    "a list for a token": Answer(body={"access_token": ["canary-body"], "token_type": "Bearer"}),
}


@pytest.mark.compliance("D22")
@pytest.mark.compliance("A15")
@pytest.mark.parametrize("answer", BAD_BODIES.values(), ids=BAD_BODIES)
def test_what_is_no_token_response_is_unavailable_and_never_quoted(scripted, client, answer) -> None:
    scripted.on("/token", answer)
    with pytest.raises(ProviderUnavailable) as raised:
        client().refresh(HELD)
    assert raised.value.answer_lost
    assert "canary" not in f"{raised.value!r} {raised.value} {vars(raised.value)}"


def test_a_providers_error_becomes_the_rfcs(server_of, scripted) -> None:
    scripted.on("/token", Answer(400, {"fault": {"code": 190}}))
    rules = {"error_field": "fault.code", "errors": {"190": "invalid_grant"}}
    with pytest.raises(ProviderRejected) as refused:
        server_of(token_response=rules).refresh(HELD)
    assert (refused.value.error, refused.value.description) == ("invalid_grant", "190")


@pytest.mark.parametrize(
    ("description", "error"),
    [
        ("Value passed was invalid.", "invalid_grant"),
        ("Missing parameter.", "invalid_request"),
        ("", "invalid_request"),
    ],
)
def test_an_error_may_depend_on_its_description(description: str, error: str, server_of, scripted) -> None:
    scripted.on("/token", Answer(400, {"error": "invalid_request", "error_description": description}))
    rules = {"errors": {"invalid_request: Value passed": "invalid_grant"}}
    with pytest.raises(ProviderRejected) as refused:
        server_of(token_response=rules).refresh(HELD)
    assert refused.value.error == error


# --- revocation ------------------------------------------------------------------------------------


@pytest.mark.compliance("A34")
def test_a_revocation_is_an_authenticated_post(scripted, client) -> None:
    scripted.on("/revoke", Answer(200))
    assert client().revoke(HELD) is True
    request = asked_once(scripted, "/revoke")
    assert (request.method, request.query) == ("POST", {})
    assert request.headers["Authorization"].startswith("Basic ")
    assert request.form == {"token": "canary-refresh", "token_type_hint": "refresh_token"}


@pytest.mark.compliance("A34")
@pytest.mark.parametrize("entry", [{"revocation": {"style": "none"}}, {"revocation_endpoint": ""}])
def test_a_provider_without_revocation_is_not_asked(scripted, client, entry) -> None:
    assert client(**entry).revoke(HELD) is False
    assert scripted.requests == []


@pytest.mark.compliance("A34")
def test_an_unsupported_token_type_is_a_refusal(scripted, client) -> None:
    scripted.on("/revoke", Answer(400, body={"error": "unsupported_token_type"}))
    with pytest.raises(ProviderRejected):
        client().revoke(HELD)


def test_a_token_is_deleted_by_json_and_basic(server_of, scripted) -> None:
    scripted.on("/apps/client/token", Answer(204))
    revocation = {
        "method": "DELETE",
        "body": "json",
        "authentication": "client_secret_basic",
        "token": "access_token",
        "token_parameter": "access_token",
    }
    server = server_of(
        revocation=revocation,
        revocation_endpoint=f"{scripted.url}/apps/{{client_id}}/token",
        token_endpoint_auth_method="client_secret_post",
    )
    server.move_to(server.provider.resolve({}))
    assert server.revoke(HELD)
    [asked] = scripted.requests
    assert (asked.method, asked.headers["Authorization"]) == ("DELETE", BASIC)
    assert json.loads(asked.body) == {"access_token": "canary-access"}


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_token_may_be_its_own_credential(method: str, server_of, scripted) -> None:
    scripted.on("/revoke", Answer(body={"ok": True}))
    assert server_of(revocation={"style": "bearer", "method": method}).revoke(HELD)
    [asked] = scripted.requests
    assert (asked.method, asked.headers["Authorization"], asked.body) == (method, "Bearer canary-access", b"")


def test_a_revocation_may_be_sent_without_client_authentication(server_of, scripted) -> None:
    scripted.on("/revoke", Answer(200))
    assert server_of(revocation={"authentication": "none"}).revoke(HELD)
    [asked] = scripted.requests
    assert "Authorization" not in asked.headers
    assert asked.form == {"token": "canary-refresh", "token_type_hint": "refresh_token"}


@pytest.mark.parametrize(
    ("answer", "rules"),
    [
        ({"ok": False, "error": "not_authed"}, {}),
        ({"done": False}, {"success_field": "done"}),
        ({"status": "x"}, {"success_field": "done"}),
        ({"failure": {"code": 5}}, {"error_field": "failure.code"}),
    ],
)
def test_a_refusal_in_a_200_is_a_refusal(answer: Any, rules: Any, server_of, scripted) -> None:
    scripted.on("/revoke", Answer(body=answer))
    with pytest.raises(ProviderRejected):
        server_of(token_response=rules).revoke(HELD)


# --- userinfo --------------------------------------------------------------------------------------


@pytest.mark.compliance("A21")
@pytest.mark.parametrize(
    ("api", "header", "value"),
    [
        ({}, "Authorization", "Bearer canary-access"),
        ({"scheme": "token"}, "Authorization", "token canary-access"),
        ({"header": "X-Api-Token", "scheme": ""}, "X-Api-Token", "canary-access"),
    ],
)
def test_userinfo_is_asked_with_the_token_in_a_header(scripted, client, api, header, value) -> None:
    scripted.on("/userinfo", Answer(body={"sub": "1"}))
    assert client(api=api).userinfo(HELD) == {"sub": "1"}
    request = asked_once(scripted, "/userinfo")
    assert (request.method, request.query, request.body) == ("GET", {}, b"")
    assert request.headers[header] == value


@pytest.mark.compliance("D22")
@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=b"<html>", headers=HTML),
        Answer(body=b"1"),
        Answer(body=b"a.b.c", headers={"Content-Type": "application/jwt"}),
        Answer(401, body={"error": {"code": 401}}),
        Answer(403, body={"message": "canary-body"}),
        Answer(404),
    ],
)
def test_userinfo_that_says_nothing_is_no_fault_of_the_client(scripted, client, answer) -> None:
    """Here a 401 is about the token. ``invalid_client`` would raise a false alarm."""
    scripted.on("/userinfo", answer)
    with pytest.raises(ProviderRejected) as rejected:
        client().userinfo(HELD)
    assert rejected.value.error == f"http_{answer.status}"
    assert "canary" not in str(rejected.value)


JWT = {"Content-Type": "application/jwt"}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (Answer(body=[{"id": "7"}]), [{"id": "7"}]),
        (Answer(201, body={"sub": "7"}), {"sub": "7"}),
        (Answer(body={"sub": "7", "error": {"code": "ok"}}), {"sub": "7", "error": {"code": "ok"}}),
        (Answer(body=id_token(sub="7").encode(), headers=JWT), {"sub": "7"}),
        (
            Answer(
                body=id_token(sub="7", iss="https://id.example", aud=["x", "client"]).encode(), headers=JWT
            ),
            {"sub": "7", "iss": "https://id.example", "aud": ["x", "client"]},
        ),
    ],
)
def test_userinfo_may_be_a_list_or_signed(scripted, client, answer, found) -> None:
    scripted.on("/userinfo", answer)
    rules = {"error_field": "error.code", "errors": {"ok": ""}}
    assert client(issuer="https://id.example", token_response=rules).userinfo(HELD) == found


@pytest.mark.parametrize("claims", [{"iss": "https://other.example"}, {"aud": "other"}, {"aud": ["other"]}])
def test_signed_userinfo_of_another_issuer_or_client_is_refused(scripted, client, claims) -> None:
    scripted.on("/userinfo", Answer(body=id_token(sub="7", **claims).encode(), headers=JWT))
    with pytest.raises(CallbackRefused):
        client(issuer="https://id.example").userinfo(HELD)


# --- refusals by a status alone, or in a list -----------------------------------------------------


@pytest.mark.compliance("A19")
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 503])
@pytest.mark.parametrize(
    ("body", "rules"),
    [
        ({"error": "invalid_grant"}, {}),
        ({"error": "invalid_token"}, {}),
        ({"error": "login_required"}, {}),
        (
            {"errors": [{"errorType": "dead"}]},
            {"error_field": "errors.0.errorType", "errors": {"dead": "invalid_grant"}},
        ),
        ([{"code": "dead"}], {"error_field": "0.code", "errors": {"dead": "invalid_grant"}}),
        ({"error": "invalid_grant"}, {"error_field": "errors.0.errorType"}),
    ],
)
def test_a_refresh_is_refused_for_good_with_any_status(scripted, client, status, body, rules) -> None:
    scripted.on("/token", Answer(status, body=body))
    server = client(token_response=rules)
    with pytest.raises(ProviderRejected) as refused:
        server.refresh(HELD)
    assert refused.value.error in server.provider.refresh.ended_errors


@pytest.mark.parametrize("word", ["INVALID_GRANT", "Invalid_Grant", " invalid_grant "])
def test_a_code_of_the_rfc_may_be_in_capitals(scripted, client, word) -> None:
    scripted.on("/token", Answer(400, body={"error": word}))
    with pytest.raises(ProviderRejected) as refused:
        client().refresh(HELD)
    assert refused.value.error == "invalid_grant"


@pytest.mark.parametrize("word", ["UNREACHABLE", "Host_Not_Found"])
def test_no_word_of_a_server_in_capitals_claims_that_nothing_was_sent(scripted, client, word) -> None:
    scripted.on("/token", Answer(400, body={"error": word}))
    with pytest.raises(ProviderRejected) as refused:
        client().refresh(HELD)
    assert refused.value.error == word


def test_the_entry_has_the_last_word_about_a_code_in_capitals(scripted, client) -> None:
    scripted.on("/token", Answer(400, body={"error": "INVALID_GRANT"}))
    with pytest.raises(ProviderUnavailable):
        client(token_response={"errors": {"INVALID_GRANT": "temporarily_unavailable"}}).refresh(HELD)


@pytest.mark.parametrize("error", ["0", 0, "", None, False])
def test_an_empty_error_in_a_success_is_none(scripted, client, error) -> None:
    scripted.on("/token", Answer(body={**FRESH, "error": error}))
    assert client().refresh(HELD).refresh_token == "refresh-1"


@pytest.mark.parametrize("style", ["rfc7009", "bearer"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_revocation_is_refused_for_good_with_any_status(scripted, client, status, style) -> None:
    scripted.on("/revoke", Answer(status, body={"error": "invalid_token"}))
    with pytest.raises(ProviderRejected, match="invalid_token"):
        client(revocation={"style": style}).revoke(HELD)


@pytest.mark.parametrize("status", [403, 404, 200])
def test_a_refused_document_of_the_account_tells_the_providers_word(scripted, client, status) -> None:
    scripted.on("/userinfo", Answer(status, body={"error": "insufficient_scope"}))
    with pytest.raises(ProviderRejected, match=rf"HTTP {status}, insufficient_scope"):
        client().userinfo(HELD)


def test_a_word_about_the_account_that_may_be_a_token_is_not_told(scripted, client) -> None:
    scripted.on("/userinfo", Answer(403, body={"error": "gho_16C7e42F292c6912E7710c838347Ae178B4a"}))
    with pytest.raises(ProviderRejected, match=r"HTTP 403, other_error\)"):
        client().userinfo(HELD)


def test_the_entry_may_say_what_a_status_without_a_code_means(scripted, client) -> None:
    scripted.on("/token", Answer(502), Answer(403))
    server = client(token_response={"errors": {"http_502": "invalid_grant", "http_403": "invalid_grant"}})
    for _ in range(2):
        with pytest.raises(ProviderRejected, match="invalid_grant"):
            server.refresh(HELD)


@pytest.mark.parametrize("call", [exchange, lambda server: server.client_credentials()])
def test_another_request_is_not_refused_for_good_by_a_failing_server(scripted, client, call) -> None:
    scripted.on("/token", Answer(500, body={"error": "invalid_grant"}))
    with pytest.raises(ProviderUnavailable, match="HTTP 500"):
        call(client())


@pytest.mark.parametrize(
    ("path", "call", "code"),
    [
        ("/token", exchange, "http_401"),
        ("/token", lambda server: server.refresh(HELD), "http_401"),
        ("/token", lambda server: server.client_credentials(), "invalid_client"),
        ("/device", lambda server: server.authorize_device(), "invalid_client"),
        ("/revoke", lambda server: server.revoke(HELD), "invalid_client"),
    ],
)
def test_a_401_without_a_code_refuses_the_client_only_where_nothing_else_was_sent(
    scripted, client, path, call, code
) -> None:
    scripted.on(path, Answer(401, body={"message": "Unauthorized"}))
    with pytest.raises((ProviderRejected, ProviderMisconfigured)) as refused:
        call(client(device_authorization_endpoint=f"{scripted.url}/device"))
    assert refused.value.error == code
    assert ("either the client" in str(refused.value)) is (code == "http_401")


def test_a_401_without_a_code_is_sent_again_with_the_next_secret(scripted, client) -> None:
    scripted.on("/token", Answer(401), Answer(body=FRESH))
    assert client(client_secret=["new", "old"]).refresh(HELD).access_token == "access-1"
    assert len(scripted.asked("/token")) == 2
