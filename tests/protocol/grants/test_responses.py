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
from oauth_connect.protocol.grants import lifetimes, responses
from oauth_connect.protocol.grants.responses import Body
from oauth_connect.protocol.token import Token
from tests.protocol.providers import acme

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def read(answer: dict[str, Any] | None, status: int = 200, requested=(), **quirks: Any) -> Token:
    full = None if answer is None else Body({"access_token": "a", "token_type": "Bearer", **answer})
    return responses.token_from(acme(**quirks), status, full, obtained_at=NOW, requested_scopes=requested)


# --- bodies -------------------------------------------------------------------------------------

FORM = b"access_token=a%2Bb&token_type=bearer&scope=x+y"
PARSED_FORM = {"access_token": "a+b", "token_type": "bearer", "scope": "x y"}


@pytest.mark.compliance("D21")
@pytest.mark.parametrize(
    ("content_type", "body", "parsed"),
    [
        ("application/json", b'{"a": 1}', {"a": 1}),
        ("Application/JSON; charset=utf-8", b'{"a": 1}', {"a": 1}),
        ("application/problem+json", b'{"a": 1}', {"a": 1}),
        ("application/x-www-form-urlencoded; charset=utf-8", FORM, PARSED_FORM),
        ("application/x-www-form-urlencoded", b"\xef\xbb\xbf" + FORM, PARSED_FORM),
        ("application/x-www-form-urlencoded", FORM + b"&\n", PARSED_FORM),
        ("application/x-www-form-urlencoded", b'{"a": 1}', {"a": 1}),
        ("application/json", b'{"a": "line\nbreak"}', {"a": "line\nbreak"}),
        ("application/json", b'{"expires_in": ' + b"9" * 5000 + b"}", {"expires_in": float("inf")}),
        ("application/json; charset=iso-8859-1", b'{"a": "Jos\xe9"}', {"a": "José"}),
        ("application/json", FORM, None),
        ("text/plain", b'{"a": 1}', {"a": 1}),
        ("text/html; charset=utf-8", b'{"a": 1}', {"a": 1}),
        ("application/octet-stream", b'\xef\xbb\xbf {"a": 1}\n', {"a": 1}),
        ("", b'{"a": 1}', {"a": 1}),
        ("no/type; at=all", b'{"a": 1}', {"a": 1}),
        ("text/plain", FORM, None),
        ("", FORM, None),
        ("text/html", b"<p>1</p>", None),
    ],
)
def test_a_form_is_read_by_its_content_type_and_a_json_object_with_any(
    content_type: str, body: bytes, parsed
) -> None:
    assert responses.read_body(content_type, body) == parsed


@pytest.mark.compliance("D22")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'["access_token"]',
        b'"text"',
        b"1",
        b"null",
        b'{"access_token": "a',
        b"<html></html>",
        b"\xff\xfe",
        b"{" * 100_000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
def test_a_body_that_is_no_object_is_none(content_type: str, body: bytes) -> None:
    assert responses.read_body(content_type, body) is None


@pytest.mark.parametrize(("content_type", "read"), [("application/json", [1]), ("text/plain", None)])
def test_another_json_value_counts_only_if_it_is_declared(content_type: str, read: object) -> None:
    assert responses.read_document(content_type, b"[1]") == read


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
    with pytest.raises(ProviderUnavailable) as refused:
        read(wrong)
    assert refused.value.answer_lost
    assert refused.value.code == "malformed_response"


@pytest.mark.compliance("A15")
@pytest.mark.compliance("D26")
@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x00b", "\ud800", "😀", "tökén", "a\x7f"])
def test_a_token_of_other_characters_than_the_rfc_allows_is_refused(name: str, value: str) -> None:
    """RFC 6749 appendix A.12 and A.17. A line break would become part of a header."""
    with pytest.raises(ProviderUnavailable):
        read({name: value})


@pytest.mark.compliance("D22")
def test_a_success_without_a_body_is_refused() -> None:
    with pytest.raises(ProviderUnavailable):
        read(None)


@pytest.mark.compliance("A15")
@pytest.mark.parametrize("token_type", ["bearer", "Bearer", "BEARER"])
def test_the_token_type_is_compared_without_case(token_type: str) -> None:
    assert read({"token_type": token_type}).token_type == token_type


@pytest.mark.compliance("A15")
def test_a_providers_entry_can_relax_the_token_type() -> None:
    assert read({"token_type": None}, token_response={"token_type_required": False}).token_type == "Bearer"
    assert read({"token_type": "user"}, token_response={"token_types": ["user"]}).token_type == "user"
    with pytest.raises(ProviderUnavailable):
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
        ("x,y", ()),
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
    with pytest.raises(ProviderUnavailable):
        responses.token_from(slack, 200, Body(authed_user=found), obtained_at=NOW)


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
        (401, None, ProviderMisconfigured, "invalid_client"),
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


def test_a_refusal_that_was_answered_leaves_no_doubt() -> None:
    with pytest.raises(ProviderUnavailable) as raised:
        read({"error": "temporarily_unavailable"}, status=400)
    assert not raised.value.answer_lost


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


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"sub": "abc"}, "abc"),
        ({"id": 5}, "5"),
        ({"id": 0}, "0"),
        ({"sub": "", "id": 5}, "5"),
        ({"sub": None, "id": 5}, "5"),
        ({"sub": {"id": 1}, "id": True}, ""),
        ({"id": 1.5}, ""),
        ({"data": {"user": {"id": "deep"}}}, "deep"),
        ({"data": "x"}, ""),
        ({}, ""),
    ],
)
def test_the_first_path_that_leads_to_an_id_wins(document: dict[str, Any], found: str) -> None:
    assert responses.pick(document, ("sub", "id", "data.user.id")) == found


@pytest.mark.compliance("D45")
@pytest.mark.parametrize(
    "said", ["refresh token rt-CANARY-0123456789 is spent", "refresh_token=rt-CANARY&x=1", "Bearer rt-CANARY"]
)
def test_a_description_that_quotes_a_token_is_masked(said: str) -> None:
    with pytest.raises(ProviderRejected) as refused:
        read({"error": "invalid_request", "error_description": said}, 400)
    assert "[masked]" in refused.value.description
    assert "CANARY" not in f"{refused.value} {refused.value.description}"
