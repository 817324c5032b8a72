"""Any input of a server or a visitor gives a typed error or a valid result."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oauth_connect.errors import CallbackRefused, CallError, printable_line
from oauth_connect.flows.paths import local_path
from oauth_connect.protocol.exchange import MAX_RETRY_AFTER, retry_after
from oauth_connect.protocol.grants import responses
from oauth_connect.protocol.grants.bodies import Body, read_body
from oauth_connect.protocol.grants.callback import read_callback
from oauth_connect.protocol.grants.lifetimes import MAX_LIFETIME, lifetime
from oauth_connect.protocol.token import Token
from tests.protocol.providers import acme
from tests.protocol.urls import ANY_TEXT, NEAR_URLS

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PROVIDERS = [
    acme(),
    acme(token_response={"path": ["authed_user"], "token_type_required": False, "scope_separator": ","}),
    acme(token_response={"wider_scopes": True, "assumed_lifetime": 7200}),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    *("access_token", "refresh_token", "token_type", "expires_in", "scope", "error", "error_description"),
    *("ok", "authed_user", "refresh_token_expires_in", "id_token", "foo"),
]
ANSWERS = st.dictionaries(
    st.sampled_from(FIELDS), VALUES | st.sampled_from(["Bearer", "a", "3600"]), max_size=8
)


@pytest.mark.compliance("D22")
@pytest.mark.compliance("D26")
@pytest.mark.compliance("D27")
@given(
    st.sampled_from(PROVIDERS),
    st.integers(100, 599),
    st.none() | ANSWERS.map(Body),
    st.lists(ANY_TEXT, max_size=2),
)
def test_any_answer_is_a_token_or_a_typed_error(provider, status, answer, requested) -> None:
    try:
        token = responses.token_from(provider, status, answer, obtained_at=NOW, requested_scopes=requested)
    except CallError:
        return
    assert 200 <= status < 300
    assert token.access_token
    assert token.expires_at is None or NOW < token.expires_at <= NOW + MAX_LIFETIME
    json.dumps(token.scopes).encode()
    assert json.dumps(Token.from_dict(json.loads(json.dumps(token.to_dict()))).to_dict())


@pytest.mark.compliance("D22")
@given(
    st.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/html", ""]) | ANY_TEXT,
    st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()),
)
def test_any_body_is_an_object_or_none(content_type: str, body: bytes) -> None:
    parsed = read_body(content_type, body)
    assert parsed is None or isinstance(parsed, Body)


@pytest.mark.compliance("D27")
@given(VALUES)
def test_any_lifetime_is_sensible_or_none(value: Any) -> None:
    found = lifetime(value)
    assert found is None or timedelta(0) < found <= MAX_LIFETIME


@pytest.mark.compliance("D2")
@pytest.mark.compliance("D19")
@given(st.lists(st.tuples(st.sampled_from(["state", "code", "error", "iss", "foo"]) | ANY_TEXT, ANY_TEXT)))
def test_any_query_is_a_callback_or_refused(pairs: list[tuple[str, str]]) -> None:
    try:
        callback = read_callback(pairs)
    except CallbackRefused:
        return
    assert not (callback.code and callback.error)
    for name in ("state", "code", "error"):
        assert [value for key, value in pairs if key == name] in ([], [getattr(callback, name)])


@pytest.mark.compliance("D32")
@given(
    ANY_TEXT | st.from_regex(r"Mon, \d{1,12} Jan \d{1,12} \d{1,12}:\d\d:\d\d [+-]?\w{1,16}", fullmatch=True)
)
@example("Mon, 01 Jan 2026 99999999999:00:00 GMT")
@example("Sun, 06 Nov 1994 08:49:37 -0000")
def test_any_retry_after_is_sensible_or_none(value: str) -> None:
    found = retry_after(value, NOW)
    assert found is None or 0 <= found <= MAX_RETRY_AFTER


@pytest.mark.compliance("D60")
@given(ANY_TEXT | st.text(min_size=1000, max_size=5000))
def test_any_words_come_out_clean(words: str) -> None:
    cleaned = printable_line(words)
    assert cleaned.isprintable()
    assert len(cleaned) <= 300


@pytest.mark.compliance("A13")
@pytest.mark.compliance("D14")
@given(ANY_TEXT | NEAR_URLS | st.builds("/{}".format, ANY_TEXT | NEAR_URLS))
@example("/\ud800")
@example("//evil.example")
@example("/\\evil.example")
@example("/a//evil.example")
@example("/\t/evil.example")
def test_any_path_stays_on_this_site_or_is_empty(candidate: str) -> None:
    path = local_path(candidate)
    assert path.isascii()
    assert path.isprintable()
    if path:
        assert urlsplit(urljoin("https://app.example/x", path))[:2] == ("https", "app.example")
        assert not path.startswith(("//", "/\\"))
