"""Reading the bodies of responses. No sockets."""

from __future__ import annotations

import pytest

from oauth_connect.protocol.grants.bodies import read_body, read_document

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
    assert read_body(content_type, body) == parsed


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
    assert read_body(content_type, body) is None


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "text/html", ""])
def test_a_list_is_read_with_any_content_type_and_its_repr_shows_no_value(content_type: str) -> None:
    found = read_document(content_type, b'["canary"]')
    assert found == ["canary"]
    assert "canary" not in repr(found)


@pytest.mark.parametrize(("content_type", "read"), [("application/json", 1), ("text/plain", None)])
def test_another_json_value_counts_only_if_it_is_declared(content_type: str, read: object) -> None:
    assert read_document(content_type, b"1") == read


def test_a_jwt_is_read_as_its_text() -> None:
    assert read_document("Application/JWT; charset=utf-8", b"a.b.c\n") == "a.b.c"
