"""Reading the responses of an authorization server. No sockets."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from oauth_connect.errors import (
    CallbackRefused,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
)
from oauth_connect.protocol.grants import lifetimes, refusals, responses
from oauth_connect.protocol.grants.bodies import Body
from oauth_connect.protocol.token import Token
from oauth_connect.redaction import redacted
from tests.protocol.providers import acme

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def read(answer: dict[str, Any] | None, status: int = 200, requested=(), **quirks: Any) -> Token:
    full = None if answer is None else Body({"access_token": "a", "token_type": "Bearer", **answer})
    return responses.token_from(acme(**quirks), status, full, obtained_at=NOW, requested_scopes=requested)


# --- the token response -------------------------------------------------------------------------


def test_a_response_becomes_a_token() -> None:
    answer = {"refresh_token": "r", "expires_in": 3600, "scope": "x y", "id_token": "i", "team": {"id": 1}}
    assert read(answer, requested=("x", "y")) == Token(
        access_token="a",
        refresh_token="r",
        token_type="Bearer",
        scopes=("x", "y"),
        obtained_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        extra={"id_token": "i", "team": {"id": 1}},
    )


@pytest.mark.compliance("A15")
@pytest.mark.compliance("D26")
@pytest.mark.parametrize(
    "wrong",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 12345},
        {"access_token": ["a"]},
        {"access_token": {"a": 1}},
        {"access_token": True},
        {"refresh_token": 12345},
        {"refresh_token": ["r"]},
        {"token_type": None},
        {"token_type": ""},
        {"token_type": "mac"},
        {"token_type": "DPoP"},
        {"token_type": ["Bearer"]},
    ],
)
def test_a_response_without_a_usable_token_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ProviderMisconfigured) as refused:
        read(wrong)
    assert refused.value.code == "malformed_token_response"


HELD = Token("held", NOW, refresh_token="held too")


@pytest.mark.compliance("A15")
@pytest.mark.parametrize(
    "answer", [{"access_token": "a", "token_type": "mac"}, {"token_type": "Bearer"}, {"data": {}}, [1], [], 1]
)
def test_in_a_refresh_such_a_response_leaves_doubt(answer: Any) -> None:
    with pytest.raises(ProviderUnavailable) as refused:
        responses.refreshed(acme(), 200, answer, previous=HELD, obtained_at=NOW)
    assert (refused.value.code, refused.value.answer_lost) == ("malformed_response", True)


@pytest.mark.parametrize(
    ("answer", "quirks", "named"),
    [
        ({"access_token": "canary"}, {}, ["token_type_required", "fields"]),
        ({"access_token": "canary", "token_type": "x-canary"}, {}, ["token_types (bearer)"]),
        (
            {"AccessToken": "canary", "token_type": "Bearer"},
            {},
            ["path", "fields", "AccessToken, token_type"],
        ),
        ({"data": {"access_token": "canary"}}, {}, ["path", "data.access_token"]),
        ({"data": [{"token": "canary"}]}, {"path": ["body"]}, ["path (now: ['body'])", "data.0.token"]),
        ([{"access_token": "canary"}], {}, ["path (now: none)", "0.access_token"]),
        ({}, {}, ["It has: none."]),
    ],
)
def test_a_first_response_without_a_token_names_the_setting_and_the_keys(answer, quirks, named) -> None:
    with pytest.raises(ProviderMisconfigured) as refused:
        responses.token_from(acme(token_response=quirks), 200, answer, obtained_at=NOW)
    assert "acme.token_response." in str(refused.value)
    assert [words for words in named if words not in str(refused.value)] == []
    assert "canary" not in str(refused.value)
    assert redacted(str(refused.value)) == str(refused.value)


@pytest.mark.compliance("A15")
@pytest.mark.compliance("D26")
@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x00b", "\ud800", "😀", "tökén", "a\x7f"])
def test_a_token_of_other_characters_than_the_rfc_allows_is_refused(name: str, value: str) -> None:
    """RFC 6749 appendix A.12 and A.17. A line break would become part of a header."""
    with pytest.raises(ProviderMisconfigured):
        read({name: value})


@pytest.mark.compliance("D22")
def test_a_success_without_a_body_is_refused() -> None:
    with pytest.raises(ProviderUnavailable, match=r"compare acme\.token_endpoint"):
        read(None)


@pytest.mark.compliance("A15")
@pytest.mark.parametrize("token_type", ["bearer", "Bearer", "BEARER", " Bearer "])
def test_the_token_type_is_compared_without_case(token_type: str) -> None:
    assert read({"token_type": token_type}).token_type == token_type.strip()


@pytest.mark.compliance("A15")
def test_a_providers_entry_can_relax_the_token_type() -> None:
    assert read({"token_type": None}, token_response={"token_type_required": False}).token_type == "Bearer"
    assert read({"token_type": ""}, token_response={"token_type_required": False}).token_type == "Bearer"
    assert read({"token_type": "user"}, token_response={"token_types": ["user"]}).token_type == "user"
    assert read({"token_type": "USER"}, token_response={"token_types": ["User"]}).token_type == "USER"
    with pytest.raises(ProviderMisconfigured):
        read({"token_type": "mac"}, token_response={"token_type_required": False})


@pytest.mark.compliance("A16")
@pytest.mark.compliance("D27")
@pytest.mark.parametrize("value", [3600, "3600", 3600.0, " 3600 "])
def test_a_lifetime_is_read_as_number_or_text(value: Any) -> None:
    assert lifetimes.lifetime(value) == timedelta(hours=1)


@pytest.mark.compliance("A16")
@pytest.mark.compliance("D27")
@pytest.mark.parametrize(
    "value",
    [
        *(None, -5, "-5", 0, "0", True, False, "x", "", [], {}, 1e18, "1e18", 10**400, "9" * 5000),
        *(1e-9, float("nan"), "NaN", float("inf"), "inf", -float("inf")),
    ],
)
def test_a_value_that_is_no_lifetime_is_ignored(value: Any) -> None:
    assert lifetimes.lifetime(value) is None
    assert read({"expires_in": value}).expires_at is None


@pytest.mark.parametrize("said", [None, "x"])
def test_a_lifetime_that_is_not_said_can_be_assumed(said: Any) -> None:
    token = read({"expires_in": said}, token_response={"assumed_lifetime": 7200})
    assert token.expires_at == NOW + timedelta(hours=2)


def test_a_refresh_tokens_lifetime_is_read_where_the_provider_says_it() -> None:
    quirk = {"token_response": {"refresh_token_expires_in": "x_refresh_expires_in"}}
    token = read({"x_refresh_expires_in": 60}, **quirk)
    assert token.refresh_token_expires_at == NOW + timedelta(minutes=1)


@pytest.mark.compliance("A17")
@pytest.mark.compliance("D28")
@pytest.mark.parametrize(
    ("said", "granted"),
    [
        (None, ("x", "y")),
        ("x y", ("x", "y")),
        ("x", ("x",)),
        ("  y   x ", ("y", "x")),
        ("x x", ("x",)),
        ("", ()),
        (["x", "y"], ("x", "y")),
        (["x", 5, None], ("x",)),
        ("x y admin", ("x", "y")),
        (["admin"], ()),
        (["x y"], ("x", "y")),
        ("x,y", ("x", "y")),
        ("y, x", ("y", "x")),
        (["x,y"], ("x", "y")),
        ("x,admin", ("x",)),
        ("admin,other", ()),
        (5, ()),
        ({"x": True}, ()),
        (False, ()),
    ],
)
def test_granted_scopes_are_as_said_and_never_wider_than_asked_for(said: Any, granted) -> None:
    assert read({"scope": said}, requested=("x", "y")).scopes == granted


@pytest.mark.compliance("D28")
@pytest.mark.parametrize("said", ["x,y", "x, y", "x y", ["x", "y"]])
def test_scopes_are_split_as_the_provider_separates_them(said: Any) -> None:
    comma = {"token_response": {"scope_separator": ","}}
    assert read({"scope": said}, requested=("x", "y"), **comma).scopes == ("x", "y")


@pytest.mark.compliance("D28")
@pytest.mark.parametrize(
    ("said", "granted"),
    [(None, ("read",)), ("read", ("read",)), ("read more", ("read", "more")), ("read other", ("read",))],
)
def test_a_scope_of_a_further_parameter_counts_only_where_the_response_names_it(said, granted) -> None:
    answer = {"access_token": "a", "token_type": "bearer", "scope": said}
    extra = {"extra_scopes": {"optional_scope": ["more", "most"]}}
    assert read(answer, requested=("read",), authorize=extra).scopes == granted


def test_a_comma_may_be_part_of_a_scope() -> None:
    assert read({"scope": "a,b c"}, requested=("a,b", "a", "c")).scopes == ("a,b", "c")


def test_wider_scopes_are_believed_only_where_the_providers_entry_says_so() -> None:
    wider = {"token_response": {"wider_scopes": True}}
    assert read({"scope": "x admin"}, requested=("x",), **wider).scopes == ("x", "admin")


@pytest.mark.compliance("D19")
def test_a_scope_that_no_database_takes_is_left_out() -> None:
    assert read({"scope": "x a\x00b \ud800 y"}).scopes == ("x", "y")


def test_a_token_is_found_where_the_provider_puts_it() -> None:
    slack = acme(token_response={"path": ["authed_user"], "token_types": ["user"]})
    answer = Body({"ok": True, "authed_user": {"access_token": "u", "token_type": "user"}})
    assert responses.token_from(slack, 200, answer, obtained_at=NOW).access_token == "u"


@pytest.mark.parametrize("found", [None, [], "x", {}])
def test_a_token_that_is_not_where_it_should_be_is_refused(found: Any) -> None:
    slack = acme(token_response={"path": ["authed_user"]})
    with pytest.raises(ProviderMisconfigured):
        responses.token_from(slack, 200, Body(authed_user=found), obtained_at=NOW)


@pytest.mark.parametrize(("token_type", "access"), [("user", "access-2"), ("x", HELD.access_token)])
def test_a_refresh_may_have_the_token_at_the_top_and_not_where_the_first_response_had_it(
    token_type: str, access: str
) -> None:
    nested = acme(token_response={"path": ["authed_user"], "token_types": ["user"]})
    answer = {"access_token": "access-2", "refresh_token": "refresh-2", "token_type": token_type}
    token = responses.refreshed(nested, 200, Body(answer), previous=HELD, obtained_at=NOW)
    assert (token.access_token, token.refresh_token) == (access, "refresh-2")


NESTED = {"data": [{"access_token": "a", "user_id": 7}]}


@pytest.mark.parametrize("answer", [NESTED, {"access_token": "a", "user_id": 7}], ids=["nested", "top"])
def test_a_path_may_be_optional(answer: dict[str, Any]) -> None:
    rules = {"path": ["data", "0"], "path_optional": True, "token_type_required": False}
    token = read(answer, token_response=rules)
    assert (token.access_token, token.extra["user_id"]) == ("a", 7)


def test_a_path_that_leads_nowhere_is_not_left_without_permission() -> None:
    with pytest.raises(ProviderMisconfigured):
        read({"access_token": "a", "token_type": "bearer"}, token_response={"path": ["data", "0"]})


def test_a_token_at_the_top_is_another_one_where_the_response_has_one_in_its_place() -> None:
    nested = acme(token_response={"path": ["authed_user"]})
    answer = Body(access_token="bot", refresh_token="bots", token_type="Bearer", authed_user={"id": 1})
    with pytest.raises(ProviderUnavailable) as refused:
        responses.refreshed(nested, 200, answer, previous=HELD, obtained_at=NOW)
    assert refused.value.answer_lost


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.compliance("D20")
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"error": "bad_refresh_token"}, "bad_refresh_token"),
        ({"ok": False, "error": "token_expired"}, "token_expired"),
        ({"ok": False}, "http_200"),
        ({"error": {"message": "no"}}, "http_200"),
        ({"error": 5}, "5"),
    ],
)
def test_an_error_with_status_200_is_an_error(answer: dict[str, Any], error: str) -> None:
    with pytest.raises(ProviderRejected) as rejected:
        read(answer)
    assert rejected.value.error == error


@pytest.mark.compliance("A19")
@pytest.mark.parametrize(
    ("status", "answer", "kind", "code"),
    [
        (400, {"error": "invalid_grant"}, ProviderRejected, "invalid_grant"),
        (400, {"error": "invalid_scope"}, ProviderRejected, "invalid_scope"),
        (400, None, ProviderRejected, "http_400"),
        (403, None, ProviderRejected, "http_403"),
        (401, {"error": "invalid_client"}, ProviderMisconfigured, "invalid_client"),
        (400, {"error": "invalid_client"}, ProviderMisconfigured, "invalid_client"),
        (400, {"error": "unauthorized_client"}, ProviderMisconfigured, "unauthorized_client"),
        (400, {"error": "unsupported_grant_type"}, ProviderMisconfigured, "unsupported_grant_type"),
        (401, None, ProviderRejected, "http_401"),
        (401, {"message": "Invalid refresh token"}, ProviderRejected, "http_401"),
        (404, {"error": "not_found"}, ProviderMisconfigured, "http_404"),
        (404, {"error": "invalid_grant"}, ProviderRejected, "invalid_grant"),
        (405, {"error": "login_required"}, ProviderRejected, "login_required"),
        (404, {"error": "authorization_pending"}, ProviderRejected, "authorization_pending"),
        (404, None, ProviderMisconfigured, "http_404"),
        (405, None, ProviderMisconfigured, "http_405"),
        (400, {"error": "temporarily_unavailable"}, ProviderUnavailable, "temporarily_unavailable"),
        (400, {"error": "slow_down"}, ProviderUnavailable, "slow_down"),
    ],
)
def test_a_refusal_has_its_class_and_its_code(status: int, answer, kind, code: str) -> None:
    with pytest.raises(kind) as raised:
        read(answer, status=status)
    assert type(raised.value) is kind
    assert raised.value.code == code


def test_a_url_that_is_no_endpoint_is_not_blamed_on_the_client() -> None:
    with pytest.raises(ProviderMisconfigured, match="no endpoint at this URL") as raised:
        read(None, status=404)
    assert "client" not in str(raised.value)


def test_an_entry_may_name_the_code_of_a_success() -> None:
    rules = {"error_field": "error.code", "errors": {"ok": ""}}
    assert read({"error": {"code": "ok"}}, token_response=rules).access_token == "a"
    with pytest.raises(ProviderRejected, match="scope_denied"):
        read({"error": {"code": "scope_denied"}}, token_response=rules)
    with pytest.raises(ProviderRejected, match="http_403"):
        read({"error": {"code": "ok"}}, 403, token_response=rules)


@pytest.mark.parametrize(
    ("message", "code"),
    [("Wrong secret.", "invalid_client"), ("Try again.", "server_error"), (None, "server_error")],
)
def test_an_entry_may_name_where_the_description_is(message: str | None, code: str) -> None:
    rules = {
        "error_field": "error.code",
        "error_description_field": "error.message",
        "errors": {"1: Wrong secret": "invalid_client", "1": "server_error"},
    }
    error = refusals.refusal(acme(token_response=rules), 400, {"error": {"code": 1, "message": message}})
    assert error.code == code


def test_a_refusal_that_was_answered_leaves_no_doubt() -> None:
    with pytest.raises(ProviderUnavailable) as raised:
        read({"error": "temporarily_unavailable"}, status=400)
    assert not raised.value.answer_lost


@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_refusal_without_a_code_names_the_setting_that_finds_it(status: int) -> None:
    error = refusals.refusal(acme(), status, {"errors": [{"errorType": "x"}]})
    assert isinstance(error, ProviderRejected)
    assert "acme.token_response.error_field" in str(error)


@pytest.mark.parametrize("said", ["Bad token", "Bad token."])
def test_the_hint_of_a_refusal_without_a_code_follows_the_servers_words(said: str) -> None:
    error = refusals.refusal(acme(), 401, {"error_description": said})
    assert "http_401. Bad token. It named no error code" in str(error)
    with pytest.raises(ProviderRejected) as refused:
        responses.refreshed(acme(), 400, {"error_description": said}, previous=HELD, obtained_at=NOW)
    assert "refused_without_reason. Bad token. It named no error code" in str(refused.value)
    assert refused.value.description == said


@pytest.mark.compliance("D60")
def test_a_servers_words_are_clipped_and_cleaned() -> None:
    words = "<script>\x00\r\n\x1b[31m\u202e" + "x" * 10_240
    with pytest.raises(ProviderRejected) as rejected:
        read({"error": "e" * 1000 + "\n", "error_description": words}, status=400)
    assert len(rejected.value.error) <= 64
    assert len(rejected.value.description) <= 300
    assert rejected.value.description.isprintable()
    assert str(rejected.value).isprintable()
    assert len(str(rejected.value)) < 500


@pytest.mark.compliance("D22")
@pytest.mark.parametrize("status", [200, 400, 401, 404])
def test_a_body_is_never_quoted(status: int) -> None:
    answer = {"access_token": ["canary"], "message": "canary", "error_uri": "canary"}
    with pytest.raises((ProviderRejected, ProviderMisconfigured, ProviderUnavailable)) as raised:
        read(answer, status=status)
    assert "canary" not in f"{raised.value}{raised.value!r}{vars(raised.value)}"


# --- the account --------------------------------------------------------------------------------


def id_token(claims: Any) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.c2ln"


ISSUER = "https://id.example"
CLAIMS = {
    "iss": ISSUER,
    "aud": "client",
    "exp": NOW.timestamp() + 60,
    "nonce": "the nonce",
    "sub": "1234",
}


def claims_of(raw: Any) -> Body:
    token = Token("a", NOW, extra={} if raw is None else {"id_token": raw})
    return responses.id_token_claims(acme(issuer=ISSUER), token, nonce="the nonce", now=NOW)


@pytest.mark.compliance("A39")
@pytest.mark.parametrize(
    "said",
    [
        {"aud": "client"},
        {"aud": ["client"]},
        {"aud": ["client"], "azp": "client"},
        {"aud": ["client", "other"], "azp": "client"},
    ],
)
def test_an_id_token_for_this_sign_in_names_the_account(said: dict[str, Any]) -> None:
    assert claims_of(id_token({**CLAIMS, **said}))["sub"] == "1234"


@pytest.mark.compliance("A39")
@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "https://id.example/"},
        {"iss": None},
        {"aud": "another"},
        {"aud": []},
        {"aud": None},
        {"aud": {"client": 1}},
        {"aud": ["client", "other"]},
        {"aud": ["client", "other"], "azp": "other"},
        {"aud": ["client", "other"], "azp": ["client"]},
        {"aud": "client", "azp": "other"},
        {"exp": NOW.timestamp()},
        {"exp": None},
        {"exp": "9999999999"},
        {"exp": True},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": 10**15},
        {"exp": int(NOW.timestamp() + 60) * 1000},
        {"nonce": "another"},
        {"nonce": None},
    ],
)
def test_an_id_token_for_something_else_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(CallbackRefused) as refused:
        claims_of(id_token({**CLAIMS, **wrong}))
    assert refused.value.code == "id_token_invalid"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (
            {"iss": "https://id.example/"},
            f"names the issuer 'https://id.example/', and the issuer of 'acme' is {ISSUER!r}",
        ),
        ({"aud": "another"}, "Compare client_id of 'acme'"),
        ({"exp": NOW.timestamp()}, "Compare the clock"),
        ({"nonce": "another"}, "nonce"),
    ],
)
def test_a_refused_id_token_says_why(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(CallbackRefused) as refused:
        claims_of(id_token({**CLAIMS, **wrong}))
    assert why in str(refused.value)


@pytest.mark.compliance("A39")
@pytest.mark.parametrize(
    "raw",
    [
        *(None, "", "x", "a.b.c", "e30.!!!.x", "é.é.é", 5, ["a"]),
        *(id_token([1]), id_token("x"), id_token(None), id_token([["a", "b"]]), id_token({})),
        "e30." + base64.urlsafe_b64encode(b"\xff\xff").decode() + ".x",
        "e30." + base64.urlsafe_b64encode(b"[" * 100_000).decode() + ".x",
    ],
)
def test_what_is_no_id_token_is_refused(raw: Any) -> None:
    with pytest.raises(CallbackRefused):
        claims_of(raw)


@pytest.mark.compliance("D45")
@pytest.mark.parametrize(
    "said", ["refresh token rt-CANARY-0123456789 is spent", "refresh_token=rt-CANARY&x=1", "Bearer rt-CANARY"]
)
def test_a_description_that_quotes_a_token_is_masked(said: str) -> None:
    with pytest.raises(ProviderRejected) as refused:
        read({"error": "invalid_request", "error_description": said}, 400)
    assert "[masked]" in refused.value.description
    assert "CANARY" not in f"{refused.value} {refused.value.description}"
