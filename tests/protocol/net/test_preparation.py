"""What a session keeps between requests: the results are those of requests."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial, wraps
from http.cookiejar import CookieJar
from typing import Any

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from requests.cookies import cookiejar_from_dict
from requests.structures import CaseInsensitiveDict

from oauth_connect.protocol.net import preparation
from oauth_connect.protocol.net.preparation import Preparation, begin
from tests.protocol.urls import ANY_TEXT, NEAR_URLS

URL = "https://api.acme.example/v1/user"


# --- a new session -------------------------------------------------------------------------------


def begun() -> requests.Session:
    session = requests.Session.__new__(requests.Session)
    begin(session, HTTPAdapter())
    return session


def comparable(session: requests.Session) -> dict[str, Any]:
    values = dict(vars(session))
    jar, adapters = values.pop("cookies"), values.pop("adapters")
    return {
        **values,
        "jar": (type(jar), list(jar), type(jar._policy)),
        "adapters": [(prefix, type(adapter)) for prefix, adapter in adapters.items()],
        "types": {name: type(value) for name, value in vars(session).items()},
    }


def test_a_session_begins_with_the_attributes_of_requests():
    assert comparable(begun()) == comparable(requests.Session())


def test_two_sessions_share_no_attribute_that_can_change():
    one, other = begun(), begun()
    for name, value in vars(one).items():
        if not isinstance(value, bool | int | type(None)):
            assert vars(other)[name] is not value, name
    assert one.hooks["response"] is not other.hooks["response"]


def test_a_longer_prefix_is_mounted_before_the_others():
    session = begun()
    session.mount("https://api.acme.example", adapter := HTTPAdapter())
    assert session.get_adapter(URL) is adapter
    assert list(session.adapters) == ["https://api.acme.example", "https://", "http://"]


def test_what_a_tool_does_with_new_sessions_is_done(monkeypatch):
    original = requests.Session.__init__

    def watched(self: requests.Session) -> None:
        original(self)
        self.headers["X-Watched"] = "1"

    monkeypatch.setattr(requests.Session, "__init__", watched)
    session = begun()
    assert session.headers["X-Watched"] == "1"
    assert session.adapters["https://"] is session.adapters["http://"]


def test_attributes_of_another_version_of_requests_are_there(monkeypatch):
    monkeypatch.setattr(preparation, "_BEGINS_HERE", False)
    assert comparable(begun()) == comparable(requests.Session())


def test_a_method_that_a_tool_replaced_before_is_recognised():
    def traced(self: requests.Session) -> None: ...

    assert preparation._is_original(requests.Session.__init__)
    assert not preparation._is_original(wraps(requests.Session.__init__)(traced))
    assert not preparation._is_original(partial(requests.Session.__init__))
    assert preparation._BEGINS_HERE
    assert preparation._PREPARES_HERE


# --- a request -----------------------------------------------------------------------------------


def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
    request.headers["Authorization"] = "Bearer token"
    request.hooks["response"].append(note)
    return request


def note(response: requests.Response, **_: Any) -> None:
    """A hook."""


def jar(**cookies: str) -> CookieJar:
    return cookiejar_from_dict(cookies)


SESSIONS: dict[str, Callable[[requests.Session], object]] = {
    "new": lambda session: None,
    "header": lambda session: session.headers.update({"X-Own": "1", "accept": "x/y"}),
    "header None": lambda session: session.headers.update({"Accept": None}),
    "header bytes": lambda session: session.headers.update({"X-Own": b"1"}),
    "dict": lambda session: setattr(session, "headers", {"x-own": "1"}),
    "no headers": lambda session: session.headers.clear(),
    "bad header": lambda session: session.headers.update({"X-Own": "a\nb"}),
    "cookies": lambda session: session.cookies.update({"a": "1"}),
    "cookies of a dict": lambda session: setattr(session, "cookies", {"a": "1"}),
    "params": lambda session: session.params.update({"page": "1"}),
    "hooks": lambda session: session.hooks["response"].append(note),
    "no auth": lambda session: setattr(session, "auth", None),
    "other auth": lambda session: setattr(session, "auth", ("user", "password")),
}
REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "post": {"method": "POST"},
    "lower case": {"method": "post"},
    "header": {"headers": {"X-Other": "1", "ACCEPT": "a/b"}},
    "header removed": {"headers": {"accept": None, "x-none": None}},
    "header of the session": {"headers": {"x-own": "2"}},
    "header twice": {"headers": {"x-a": "1", "X-A": None}},
    "header bytes": {"headers": {b"X-Own": b"2"}},
    "header with a line break": {"headers": {"X-A": "a\nb"}},
    "header int": {"headers": {"X-A": 1}},
    "headers of requests": {"headers": CaseInsensitiveDict({"X-A": "1"})},
    "cookie header": {"headers": {"Cookie": "b=2"}},
    "length header": {"method": "POST", "headers": {"Content-Length": "0"}},
    "params": {"params": {"q": "a b", "n": [1, 2], "none": None}},
    "params text": {"params": "q=a b"},
    "params bytes": {"params": b"q=1"},
    "params pairs": {"params": [("q", "1"), ("q", "2")]},
    "params empty": {"params": ""},
    "json": {"method": "POST", "json": {"a": 1}},
    "json empty": {"method": "POST", "json": {}},
    "json nan": {"method": "POST", "json": float("nan")},
    "form": {"method": "POST", "data": {"a": "1"}},
    "form empty": {"method": "POST", "data": {}},
    "data text": {"method": "PUT", "data": "text"},
    "data bytes": {"method": "PUT", "data": b"bytes"},
    "data no bytes": {"method": "PUT", "data": b""},
    "data pairs": {"method": "POST", "data": [("a", "1")]},
    "data and json": {"method": "POST", "data": b"", "json": {"a": 1}},
    "files": {"method": "POST", "files": {"a": ("a.txt", b"text", "text/plain")}},
    "cookies": {"cookies": {"b": "2"}},
    "cookie jar": {"cookies": jar(b="2")},
    "cookie jar empty": {"cookies": jar()},
    "auth": {"auth": ("user", "password")},
    "auth callable": {"auth": sign},
    "hooks": {"hooks": {"response": note}},
    "hook list": {"hooks": {"response": [note, note]}},
    "url bytes": {"url": URL.encode()},
    "url empty": {"url": ""},
    "url without a path": {"url": "https://api.acme.example"},
    "url with a query": {"url": f"{URL}?a=1&b='x'"},
    "url with an empty query": {"url": f"{URL}?"},
    "url with a fragment": {"url": f"{URL}#x"},
    "url with a blank": {"url": f" {URL}?a=b c"},
    "url with credentials": {"url": "https://user:password@api.acme.example/"},
    "url upper case": {"url": "HTTPS://API.acme.example/V1"},
    "url with dots": {"url": "https://api.acme.example/a/../b/./c/.."},
    "url with a name of dots": {"url": "https://api.acme.example/...a/b..c/d."},
    "url with slashes": {"url": "https://api.acme.example//a//b/"},
    "url with an escape": {"url": "https://api.acme.example/%7euser%2fx"},
    "url with a port": {"url": "https://api.acme.example:443/x"},
    "url with port 0": {"url": "https://api.acme.example:0/x"},
    "url with a port too large": {"url": "https://api.acme.example:65536/x"},
    "url with zeros in the port": {"url": "https://api.acme.example:0443/x"},
    "url without a port": {"url": "https://api.acme.example:/x"},
    "url of IPv6": {"url": "http://[::1]:80/x"},
    "url with a star": {"url": "https://*.acme.example/"},
    "url with a dot first": {"url": "https://.acme.example/"},
    "url beyond ASCII": {"url": "https://bücher.example/ä?ö"},
    "url of a mail": {"url": "mailto:a@example"},
    "url of another type": {"url": type("Url", (str,), {})(URL)},
}


def outcome(prepare: Callable[[], requests.PreparedRequest]) -> Any:
    """Return everything about the prepared request, or its error."""
    try:
        prepared: Any = prepare()
    except Exception as error:
        return type(error), str(error)
    return {
        "method": prepared.method,
        "url": (type(prepared.url), prepared.url),
        "headers": (type(prepared.headers), list(prepared.headers.items())),
        "body": prepared.body,
        "cookies": (type(prepared._cookies), [(one.name, one.value) for one in prepared._cookies]),
        "hooks": prepared.hooks,
        "position": prepared._body_position,
    }


@pytest.mark.parametrize("changed", SESSIONS)
@pytest.mark.parametrize("asked", REQUESTS)
def test_a_request_is_prepared_as_requests_prepares_it(changed, asked, monkeypatch):
    monkeypatch.setattr("urllib3.filepost.choose_boundary", lambda: "boundary")
    session = requests.Session()
    session.auth = sign
    SESSIONS[changed](session)
    kept = Preparation({})
    for _ in range(2):  # the second time from what was kept
        request = requests.Request(**{"method": "GET", "url": URL, **REQUESTS[asked]})
        expected = outcome(lambda: session.prepare_request(request))  # noqa: B023
        assert outcome(lambda: kept.prepare(session, request)) == expected  # noqa: B023


def test_a_preparation_that_a_tool_replaced_is_called(monkeypatch):
    def traced(self: requests.Session, request: requests.Request) -> requests.PreparedRequest:
        return requests.Request("GET", f"{URL}?traced").prepare()

    monkeypatch.setattr(requests.Session, "prepare_request", traced)
    session = requests.Session()
    session.auth = sign
    assert Preparation({}).prepare(session, requests.Request("GET", URL)).url == f"{URL}?traced"


def test_a_file_is_sent_from_its_position():
    session, body = requests.Session(), io.BytesIO(b"0123")
    session.auth = sign
    body.seek(2)
    request = requests.Request("POST", URL, data=body)
    prepared: Any = Preparation({}).prepare(session, request)
    assert prepared._body_position == 2
    assert prepared.headers["Content-Length"] == "2"


def test_a_header_that_changes_counts_for_the_next_request():
    session = requests.Session()
    session.auth = sign
    kept = Preparation({})
    for value in ("1", "2", None, "3"):
        session.headers["X-Own"] = value  # type: ignore[assignment]
        assert kept.prepare(session, requests.Request("GET", URL)).headers.get("X-Own") == value
    del session.headers["X-Own"]
    assert "X-Own" not in kept.prepare(session, requests.Request("GET", URL)).headers


def test_a_request_changes_no_header_of_the_next_one():
    session = requests.Session()
    session.auth = sign
    kept = Preparation({"X-Entry": "1"})
    session.headers["X-Entry"] = "1"
    first = kept.prepare(session, requests.Request("GET", URL, headers={"X-Own": "1"}))
    first.headers["X-Late"] = "1"
    other = Preparation({"X-Entry": "1"})
    for each in (kept, other):
        later = each.prepare(session, requests.Request("GET", URL))
        assert later.headers == {**session.headers, "Authorization": "Bearer token"}
    assert later._cookies is not first._cookies  # type: ignore[attr-defined]


def test_headers_are_checked_once_as_long_as_they_are_the_same(monkeypatch):
    checked: list[Any] = []
    check = preparation._prepared_headers
    monkeypatch.setattr(preparation, "_prepared_headers", lambda *args: checked.append(args) or check(*args))
    session = requests.Session()
    session.auth = sign
    session.headers["X-Own"] = "1"
    kept = Preparation({})
    for _ in range(100):
        kept.prepare(session, requests.Request("GET", URL, headers={"X-Other": "1"}))
    assert len(checked) <= 2


def prepared_url(url: str) -> str | None:
    prepared = requests.PreparedRequest()
    prepared.prepare_url(url, {})
    return prepared.url


NORMAL = st.from_regex(preparation._NORMAL_URL, fullmatch=True)
ALMOST = st.builds(lambda url, more: url + more, NORMAL, NEAR_URLS)


@given(NORMAL | ALMOST | NEAR_URLS | ANY_TEXT)
@example("https://api.example/..")
@example("https://api.example/a/.")
@example("https://api.example:65535/")
@example("https://api.example/~a;b=1,2@c:d!$&'()*+?/?")
@example("https://1.2.3/")
def test_a_normal_url_is_what_requests_makes_of_it(url: str) -> None:
    if preparation._NORMAL_URL.fullmatch(url):
        assert prepared_url(url) == url


def test_the_url_of_a_common_call_is_normal():
    for url in (URL, f"{URL}?page=2&per_page=100", "https://api.acme.example:8443/v1/users/12/"):
        assert preparation._NORMAL_URL.fullmatch(url), url
