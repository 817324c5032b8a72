"""The hosts that receive a token, and the URLs that may be endpoints."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oauth_connect.errors import ForbiddenDestination
from oauth_connect.protocol.net.destination import (
    Origin,
    allows,
    below,
    endpoint_problem,
    is_loopback,
    origin_of,
    parse_hosts,
    plain_origin,
)
from tests.protocol.urls import ANY_TEXT, NEAR_URLS, NOT_THE_API

API = parse_hosts(["api.example"])


@pytest.mark.compliance("A24")
@pytest.mark.compliance("D36")
@pytest.mark.parametrize("url", NOT_THE_API)
def test_a_token_is_not_sent_elsewhere(url: str) -> None:
    with pytest.raises(ForbiddenDestination):
        check(url)


def check(url: str) -> None:
    if not allows(API, origin_of(url)):
        raise ForbiddenDestination


@pytest.mark.parametrize(
    ("url", "base", "part"),
    [
        ("https://api.example/v1/user?a=1#x", "https://api.example/v1/", "/user?a=1#x"),
        ("https://api.example/v1/user", "https://api.example/v1", "/user"),
        ("https://api.example/v1", "https://api.example/v1/", ""),
        ("https://api.example/v1?a=1", "https://api.example/v1", "?a=1"),
        ("https://api.example/user", "https://api.example", "/user"),
        ("https://api.example/v1/user", "https://API.example:443/v1/", "/user"),
        ("https://api.example/v12/user", "https://api.example/v1", None),
        ("https://api.example.evil.example/", "https://api.example", None),
        ("https://api.example:8443/v1/user", "https://api.example/v1/", None),
        ("http://api.example/v1/user", "https://api.example/v1/", None),
        ("user", "https://api.example/v1/", None),
    ],
)
def test_what_is_below_a_base_url(url: str, base: str, part: str | None) -> None:
    assert below(url, base) == part


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example",
        "https://api.example/",
        "HTTPS://API.EXAMPLE/v1",
        "https://api.example:443/v1?next=https://evil.example/",
        "https://api.example/redirect/https://evil.example/@x",
    ],
)
def test_a_token_is_sent_to_its_api(url: str) -> None:
    check(url)


@pytest.mark.parametrize(
    ("hosts", "url", "allowed"),
    [
        (["api.example:8443"], "https://api.example:8443/", True),
        (["api.example:8443"], "https://api.example/", False),
        (["api.example", "files.example"], "https://files.example/", True),
        (["API.Example"], "https://api.example/", True),
        (["127.0.0.1:8000"], "http://127.0.0.1:8000/", True),
        (["localhost"], "http://localhost/", True),
        (["[::1]:8000"], "http://[::1]:8000/", True),
        (["intranet.example"], "http://intranet.example/", False),
        (["bücher.example"], "https://xn--bcher-kva.example/", True),
        ([], "https://api.example/", False),
    ],
)
def test_hosts_are_named_with_their_port(hosts: list[str], url: str, allowed: bool) -> None:
    assert allows(parse_hosts(hosts), origin_of(url)) is allowed


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "https://api.example",
        "api.example/v1",
        "api.example?x",
        "api.example#x",
        "user@api.example",
        "api.example:port",
        "api.example:99999",
        "a host",
        "[::1",
    ],
)
def test_what_is_not_a_host_is_refused_by_name(entry: str) -> None:
    with pytest.raises(ForbiddenDestination, match="is not a host"):
        parse_hosts([entry])


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.example", Origin("https", "api.example", 443)),
        ("http://api.example/x", Origin("http", "api.example", 80)),
        ("https://api.example:8443", Origin("https", "api.example", 8443)),
    ],
)
def test_an_origin_has_its_schemes_port(url: str, origin: Origin) -> None:
    assert origin_of(url) == origin


@pytest.mark.compliance("B6")
@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("2130706433", False),
        ("169.254.169.254", False),
    ],
)
def test_loopback_is_a_name_and_literal_addresses(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.compliance("A23")
@pytest.mark.compliance("B6")
@pytest.mark.parametrize(
    "url",
    [
        "",
        "id.example/token",
        "//id.example/token",
        "http://id.example/token",
        "HTTP://id.example/token",
        "http://localhost:80@id.example/token",
        "https://user@id.example/token",
        "https://id.example/token#part",
        "https://id.example/token#",
        "ftp://id.example/token",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://[::1/token",
        "https://id.example\\@evil.example/",
    ],
)
def test_an_endpoint_is_https_without_a_fragment(url: str) -> None:
    assert endpoint_problem(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://id.example/token",
        "https://id.example:8443/token?tenant=1",
        "http://127.0.0.1:8000/token",
        "http://localhost/token",
        "http://[::1]:8000/token",
    ],
)
def test_a_good_endpoint_has_no_problem(url: str) -> None:
    assert endpoint_problem(url) == ""


@given(ANY_TEXT | NEAR_URLS)
@example("https://api.example\t.evil.example")
@example("https://[fe80::1%25\ud800]/")
def test_any_text_is_refused_or_has_an_origin(url: str) -> None:
    try:
        origin = origin_of(url)
    except ForbiddenDestination:
        return
    assert origin.scheme in ("http", "https")
    assert origin.host
    assert 0 <= origin.port < 65536
    assert isinstance(endpoint_problem(url), str)


HOSTS = st.sampled_from(["https://api.example", "https://api.example:443", "https://api.example:0443"])
AFTER = st.sampled_from([*"/?#.:@\\%\t[eE", "", "\uff0e", "\u2024"])
URLS = st.builds(lambda host, after, rest: host + after + rest, HOSTS, AFTER, NEAR_URLS)


@given(URLS | NEAR_URLS | ANY_TEXT)
@example("https://api.example/\\x")
@example("https://api.example\u3002evil.example/")
@example("https://api.example%2eevil.example/")
@example("https://API.example/")
@example("https://api.example:443@evil.example/")
@example("https://api.example\n")
def test_the_plain_origin_of_a_url_decides_where_it_leads(url: str) -> None:
    if text := plain_origin(url):
        assert url.startswith(text)
        try:
            expected = origin_of(text)
        except ForbiddenDestination:
            with pytest.raises(ForbiddenDestination):
                origin_of(url)
        else:
            assert origin_of(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "https://user@api.example/",
        "https://api.example/\\",
        "https://api.example\t/",
        "https://api.example/\n",
        "https://аpi.example/",  # noqa: RUF001
        "https://api。example/",
        "https://api%2eexample/",
        "https://API.example/",
        "https://api.example:/",
        "https://[::1]/",
        "//api.example/",
        "",
    ],
)
def test_such_a_url_has_no_plain_origin(url: str) -> None:
    assert plain_origin(url) == ""


@given(st.lists(ANY_TEXT, max_size=3))
def test_any_text_is_refused_or_is_a_host(entries: list[str]) -> None:
    try:
        found = parse_hosts(entries)
    except ForbiddenDestination:
        return
    assert all(host for host, _ in found)


WILD = parse_hosts(["*.mills.example", "*.ports.example:8443"])


@pytest.mark.compliance("A24")
@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://a.mills.example/", True),
        ("https://A.MILLS.example/", True),
        ("https://a.ports.example:8443/", True),
        ("https://mills.example/", False),
        ("https://a.b.mills.example/", False),
        ("https://amills.example/", False),
        ("https://.mills.example/", False),
        ("https://a.mills.example.evil.example/", False),
        ("https://a.mills.example:8443/", False),
        ("https://a.ports.example/", False),
        ("http://a.mills.example/", False),
        ("https://evil.example/a.mills.example", False),
    ],
)
def test_a_star_is_one_whole_label(url: str, allowed: bool) -> None:
    try:
        found = allows(WILD, origin_of(url))
    except ForbiddenDestination:
        found = False
    assert found is allowed


@pytest.mark.parametrize(
    "entry",
    ["*", "*.", "*.example", "a*.mills.example", "*.*.mills.example", "*.2.3.4", "a.*.example", "*.x."],
)
def test_a_star_that_is_too_wide_is_refused(entry: str) -> None:
    with pytest.raises(ForbiddenDestination):
        parse_hosts([entry])
