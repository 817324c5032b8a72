"""Which patterns keep a host within one registrable domain."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oauth_connect.protocol.net.registrable import endings_of, fixes_domain, netloc

FIXED = [
    ("{v}.acme.example", "[a-z]+"),
    ("{v}.acme.example:8443", "[a-z.]*"),
    ("127.0.0.1:{v}", "[0-9]+"),
    ("{v}", r"(?:[a-z0-9-]+\.)+salesforce\.com"),
    ("{v}", r"(?:https://)?((?:[a-z0-9-]+\.)+salesforce\.com)"),
    ("accounts.zoho.{v}", "com|eu|in"),
    ("accounts.zoho.{v}", r"(?:com|eu|com\.au)"),
    ("{v}", r"accounts\.zoho\.(?:com|eu)"),
    ("{v}", r".+\.shop\.co\.uk"),
    ("{v}", r"eu[12]?\.acme\.example"),
    ("{v}", r"(?i)[a-z]+\.acme\.example"),
    ("{v}.example.com", ".*"),
    ("api.example.com", "unused"),
]
LOOSE = [
    ("{v}", "[a-z.]+"),
    ("{v}", r"(?:[a-z0-9-]+\.)+com"),
    ("{v}.example", "[a-z.]+"),
    ("{v}.com", "[a-z.]+"),
    ("zoho.{v}", "[a-z]+"),
    ("{v}", r".*acme\.example"),
    ("{v}acme.example", "[a-z.]*"),
    ("{v}", r"[a-z.]+|x\.acme\.example"),
    ("{v}", r"[a-z.]*(?<!acme\.example)"),
    ("{v}", r"[a-z.]*(?<=acme\.example)"),
    ("{v}", r"[a-z.]+\.\w\.example"),
    ("{v}", r"x\.acme\.example(?:\.[a-z]+)?"),
    ("{v}.co.uk", "[a-z.]+"),
    ("{v}.0.0.1", "[0-9.]+"),
    ("{v}", "a{0,5}" * 9),
]


@pytest.mark.parametrize(("host", "pattern"), FIXED)
def test_a_host_that_ends_in_the_domain_is_fixed(host: str, pattern: str) -> None:
    assert fixes_domain(host, {"v": endings_of(pattern)})


@pytest.mark.parametrize(("host", "pattern"), LOOSE)
def test_any_other_host_is_not(host: str, pattern: str) -> None:
    assert not fixes_domain(host, {"v": endings_of(pattern)})


def test_listed_hosts_are_fixed() -> None:
    assert fixes_domain("{v}", {"v": endings_of("", ["a.example", "b.test"])})


def test_what_this_python_cannot_parse_is_not_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oauth_connect.protocol.net.registrable.import_module", lambda name: object())
    assert endings_of("never.seen.before") == {("", False)}


PATTERNS = [pattern for _, pattern in (*FIXED, *LOOSE)]


@given(st.data())
def test_a_text_that_matches_has_one_of_the_endings(data: st.DataObject) -> None:
    pattern = data.draw(st.sampled_from(PATTERNS))
    text = data.draw(st.from_regex(re.compile(pattern), fullmatch=True))
    endings = endings_of(pattern)
    assert any(text.lower().endswith(end.lower()) and (not whole or text == end) for end, whole in endings)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://a.example/x", "a.example"),
        ("https://a.example:1?x", "a.example:1"),
        ("https://a.example\\x", "a.example"),
        ("a.example:1", "a.example:1"),
        ("https://{a}.example#x", "{a}.example"),
        ("", ""),
    ],
)
def test_the_network_location_is_read_from_a_template_too(url: str, host: str) -> None:
    assert netloc(url) == host
