"""The session a caller gets, over real sockets, with a source of tokens that lives in memory."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st

from oauth_connect.errors import ForbiddenDestination, ReauthorizationRequired
from oauth_connect.protocol.bearer import MAX_ALLOWED, Bearer, _allowed
from oauth_connect.protocol.net import destination, environment
from oauth_connect.protocol.net.destination import origin_of
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.session import ApiSession
from oauth_connect.protocol.token import Token
from tests.protocol.providers import acme
from tests.protocol.urls import NEAR_URLS, NOT_THE_API
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.frames import files_of


class Source:
    """A TokenSource: ``token-0``, and after each renewal the next one."""

    def __init__(self, provider: Provider, *, renewals: int = 9) -> None:
        self.provider = provider
        self.renewals = renewals
        self.renewed_from: list[str] = []
        self._lock = threading.Lock()
        self._number = 0

    def current(self) -> Token:
        return Token(f"token-{self._number}", datetime.now(UTC))

    def renewed(self, rejected: Token) -> Token | None:
        with self._lock:
            self.renewed_from.append(rejected.access_token)
            current = self.current()
            if current.access_token != rejected.access_token:
                return current
            if not self.renewals:
                return None
            self.renewals -= 1
            self._number += 1
            return self.current()


Opener = Callable[..., ApiSession]


@pytest.fixture
def open_session(provider_at: Callable[..., Provider]) -> Iterator[Opener]:
    opened: list[ApiSession] = []

    def make(*, renewals: int = 9, timeout: float = 60, **changes: Any) -> ApiSession:
        opened.append(ApiSession(Source(provider_at(**changes), renewals=renewals), timeout=timeout))
        return opened[-1]

    yield make
    for session in opened:
        session.close()


def source_of(http: ApiSession) -> Source:
    source = http.token_auth.source
    assert isinstance(source, Source)
    return source


def tokens_sent(server: ScriptedServer, path: str, header: str = "Authorization") -> list[str | None]:
    return [request.headers.get(header) for request in server.asked(path)]


# --- placing the token --------------------------------------------------------------------------

each_place = pytest.mark.parametrize(
    ("api", "header", "value"),
    [
        ({}, "Authorization", "Bearer token-0"),
        ({"scheme": "token"}, "Authorization", "token token-0"),
        ({"header": "X-Api-Token", "scheme": ""}, "X-Api-Token", "token-0"),
    ],
)


@pytest.mark.compliance("A21")
@each_place
def test_the_token_is_in_a_header_and_never_in_the_url(scripted, open_session, api, header, value) -> None:
    scripted.on("/api/user", Answer(body={}))
    response = open_session(api=api).get("user", params={"q": "1"})
    (request,) = scripted.asked("/api/user")
    assert request.headers[header] == value
    assert request.query == {"q": "1"}
    assert "token-0" not in response.url


def test_a_providers_headers_are_sent(scripted, open_session) -> None:
    scripted.on("/api/user", Answer(body={}))
    open_session(api={"headers": {"Accept": "application/vnd.acme+json"}}).get("user")
    assert scripted.asked("/api/user")[0].headers["Accept"] == "application/vnd.acme+json"


@pytest.mark.parametrize(
    ("base", "url", "path"),
    [
        ("/api/", "user", "/api/user"),
        ("/api/", "/user", "/api/user"),
        ("/api", "user", "/api/user"),
        ("/api/v4/", "/projects/1?x=https://evil.example", "/api/v4/projects/1"),
        ("/api/", "mailto:x", "/api/mailto:x"),
        ("/api/", "a:b/c", "/api/a:b/c"),
        ("/api/", "", "/api/"),
        ("", "user", "/user"),
        ("/api/", b"user", "/api/user"),
    ],
)
def test_a_relative_url_is_joined_below_the_base(scripted, open_session, base, url, path) -> None:
    scripted.on(path, Answer(body={}))
    http = open_session(api_base_url=f"{scripted.url}{base}")
    assert http.get(url).status_code == 200
    assert tokens_sent(scripted, path) == ["Bearer token-0"]


def test_an_absolute_url_at_the_api_is_called_as_it_is(scripted, open_session) -> None:
    scripted.on("/elsewhere/x", Answer(body={}))
    assert open_session().get(f"{scripted.url}/elsewhere/x").status_code == 200


def test_without_a_base_only_absolute_urls_can_be_called(scripted, open_session) -> None:
    http = open_session(api_base_url="", api_hosts=[f"127.0.0.1:{scripted.port}"])
    with pytest.raises(ForbiddenDestination, match="absolute"):
        http.get("user")
    scripted.on("/user", Answer(body={}))
    assert http.get(f"{scripted.url}/user").status_code == 200


@pytest.mark.compliance("D58")
def test_a_long_token_is_sent_whole(scripted, open_session) -> None:
    scripted.on("/api/user", Answer(body={}))
    http = open_session()
    source_of(http).current = lambda: Token("x" * 32_768, datetime.now(UTC))  # type: ignore[method-assign]
    http.get("user")
    assert tokens_sent(scripted, "/api/user") == ["Bearer " + "x" * 32_768]


@pytest.mark.compliance("D39")
def test_the_bearer_wins_over_netrc(scripted, open_session, netrc) -> None:
    scripted.on("/api/user", Answer(302, headers={"Location": "/api/me"}))
    scripted.on("/api/me", Answer(body={}))
    open_session().get("user")
    assert tokens_sent(scripted, "/api/user") == tokens_sent(scripted, "/api/me") == ["Bearer token-0"]


@pytest.mark.compliance("D39")
def test_no_proxy_is_honoured_and_the_proxys_credentials_go_no_further(
    scripted, second, open_session, monkeypatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://proxy-user:proxy-password@127.0.0.1:{second.port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    scripted.on("/api/user", Answer(302, headers={"Location": "/api/me"}))
    scripted.on("/api/me", Answer(body={}))
    open_session().get("user")
    assert second.requests == []
    assert all("Proxy-Authorization" not in request.headers for request in scripted.requests)


def test_a_call_without_a_timeout_gets_one(scripted, open_session) -> None:
    scripted.on("/api/user", Answer(silent=True))
    with pytest.raises(requests.Timeout):
        open_session(timeout=0.2).get("user")


def test_a_calls_own_timeout_is_kept(scripted, open_session) -> None:
    scripted.on("/api/user", Answer(body={}, delay=0.3))
    assert open_session(timeout=0.1).get("user", timeout=60).status_code == 200


# --- where it may go ----------------------------------------------------------------------------


@pytest.mark.compliance("A24")
@pytest.mark.compliance("D36")
@pytest.mark.compliance("D38")
@pytest.mark.parametrize("url", [url for url in NOT_THE_API if url])
def test_nothing_is_sent_elsewhere(url: str) -> None:
    """The address is refused before a token is requested."""
    source = Source(acme())
    source.current = pytest.fail  # type: ignore[assignment]
    with ApiSession(source) as http, pytest.raises(ForbiddenDestination):
        http.get(url)


@pytest.mark.compliance("D36")
@pytest.mark.parametrize("url", ["https://evil.example/", "http://api.example/"])
def test_a_prepared_request_is_checked_too(url: str) -> None:
    with ApiSession(Source(acme())) as http, pytest.raises(ForbiddenDestination):
        http.prepare_request(requests.Request("GET", url))


@pytest.mark.compliance("D36")
def test_another_port_of_the_same_host_is_another_host(scripted, second, open_session) -> None:
    with pytest.raises(ForbiddenDestination) as refused:
        open_session().get(f"{second.url}/api/user")
    assert isinstance(refused.value, requests.RequestException)
    assert second.requests == []


BEGINNINGS = [
    "https://api.example",
    "https://api.example:443",
    "https://a.wild.example",
    "https://evil.example",
]

URLS = st.builds("".join, st.tuples(st.sampled_from(BEGINNINGS), NEAR_URLS)) | NEAR_URLS


@given(st.lists(URLS, max_size=6))
@example(["https://api.example/", *NOT_THE_API])
@example(["https://api.example/\\@evil.example", "https://api.example\\@evil.example"])
def test_what_was_allowed_before_allows_nothing_else(urls: list[str]) -> None:
    """The check remembers origins, and decides as it does for a URL that it sees for the first time."""
    remembering = Bearer(acme(api_hosts=["api.example", "*.wild.example"]))
    for url in (*BEGINNINGS, *urls):
        _allowed.cache_clear()
        decided = decision(Bearer(remembering.provider), url)
        _allowed.cache_clear()
        for beginning in BEGINNINGS:
            decision(remembering, beginning)
        assert decision(remembering, url) == decided


def decision(bearer: Bearer, url: str) -> str:
    try:
        bearer.check_destination(url)
    except ForbiddenDestination as refused:
        return str(refused)
    return "allowed"


def test_hosts_that_a_provider_does_not_name_any_more_are_refused() -> None:
    Bearer(acme(api_hosts=["api.example"])).check_destination("https://api.example/")
    with pytest.raises(ForbiddenDestination):
        Bearer(acme(api_hosts=["other.example"])).check_destination("https://api.example/")


def test_the_number_of_remembered_origins_is_bounded() -> None:
    bearer = Bearer(acme(api_hosts=["*.wild.example"]))
    for number in range(2 * MAX_ALLOWED):
        bearer.check_destination(f"https://h{number}.wild.example/")
    assert len(_allowed(bearer.hosts, bearer.guard)) == MAX_ALLOWED


def test_a_hundred_calls_check_an_origin_and_read_the_proxies_once(
    scripted, open_session, monkeypatch
) -> None:
    asked: list[str] = []
    for module, name in ((destination, "origin_of"), (environment, "get_environ_proxies")):
        monkeypatch.setattr(module, name, partial(counted, getattr(module, name), asked, name))
    scripted.on("/api/user", Answer(body={}))
    http = open_session()
    asked.clear()  # the hosts of the provider
    for number in range(100):
        assert http.get("user", params={"page": number}).status_code == 200
    assert sorted(asked) == ["get_environ_proxies", "origin_of"]


def counted(function: Callable[..., Any], asked: list[str], name: str, *args: Any) -> Any:
    asked.append(name)
    return function(*args)


def test_a_proxy_that_changes_counts_for_the_next_call_of_a_session(
    scripted, second, open_session, monkeypatch
) -> None:
    scripted.on("/api/user", Answer(body={"n": 1}))
    second.on("/api/user", Answer(body={"n": 2}))
    http, answers = open_session(), []
    for proxy in ("", second.url, ""):
        monkeypatch.setenv("http_proxy", proxy)
        answers.append(http.get("user").json()["n"])
    assert answers == [1, 2, 1]


def test_a_bundle_that_the_environment_names_counts_for_the_next_call(
    tls_server, open_session, certificate, monkeypatch
) -> None:
    tls_server.on("/api/user", Answer(body={}))
    http = open_session(api_base_url=f"{tls_server.url}/api/")
    for bundle in (str(certificate), None, str(certificate)):
        if bundle is None:
            monkeypatch.delenv("REQUESTS_CA_BUNDLE")
            with pytest.raises(requests.exceptions.SSLError):
                http.get("user")
        else:
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
            assert http.get("user").status_code == 200


# --- an organisation that moves -----------------------------------------------------------------


class MovingSource(Source):
    """A renewal names another place of the API."""

    def __init__(self, provider: Provider, moved: Provider) -> None:
        super().__init__(provider)
        self._moved = moved

    def renewed(self, rejected: Token) -> Token | None:
        newer = super().renewed(rejected)
        self.provider = self._moved
        return newer


def moving_source(scripted: ScriptedServer, second: ScriptedServer, provider_at: Any) -> MovingSource:
    """The API at the scripted server refuses the token, and the renewal names the second server."""
    scripted.on("/api/user", Answer(401))
    second.on("/org/user", Answer(body={"at": "second"}))
    return MovingSource(provider_at(), provider_at(api_base_url=f"{second.url}/org/"))


@pytest.fixture
def moving(scripted, second, provider_at) -> MovingSource:
    return moving_source(scripted, second, provider_at)


@pytest.mark.parametrize("absolute", [False, True])
def test_a_call_that_learns_of_a_move_is_repeated_at_the_new_place(scripted, second, moving, absolute):
    http = ApiSession(moving)
    url = f"{scripted.url}/api/user" if absolute else "user"
    assert http.get(url, params={"page": "2"}).json() == {"at": "second"}
    assert http.get(url).json() == {"at": "second"}
    assert tokens_sent(second, "/org/user") == ["Bearer token-1"] * 2
    assert second.asked("/org/user")[0].query == {"page": "2"}
    assert second.asked("/org/user")[0].headers["Host"] == f"127.0.0.1:{second.port}"
    assert len(scripted.asked("/api/user")) == 1


def moving_to_another_host(
    scripted: ScriptedServer, second: ScriptedServer, provider_at: Any
) -> MovingSource:
    """``moving_source`` with cookies of the first server. "localhost" is another host than its address."""
    source = moving_source(scripted, second, provider_at)
    source._moved = provider_at(api_base_url=f"http://localhost:{second.port}/org/")
    scripted.on("/api/login", Answer(headers={"Set-Cookie": "first=1; Path=/"}))
    scripted.on("/api/user", Answer(401, headers={"Set-Cookie": "refused=1; Path=/"}))
    second.on("/org/user", Answer(headers={"Set-Cookie": "second=1; Path=/"}))
    return source


def test_a_cookie_stays_with_the_host_that_set_it(scripted, second, provider_at) -> None:
    http = ApiSession(moving_to_another_host(scripted, second, provider_at))
    http.get("login")
    for _ in range(2):
        assert http.get(f"{scripted.url}/api/user").status_code == 200
    assert [one.headers.get("Cookie") for one in scripted.requests] == [None, "first=1"]
    assert [one.headers.get("Cookie") for one in second.requests] == [None, "second=1"]


def test_a_body_is_sent_again_at_the_new_place(scripted, second, moving) -> None:
    assert ApiSession(moving).post("user", data=io.BytesIO(b"whole")).status_code == 200
    assert [one.asked(path)[0].body for one, path in ((scripted, "/api/user"), (second, "/org/user"))] == [
        b"whole"
    ] * 2


def test_the_new_place_must_be_one_that_may_have_the_token(scripted, second, moving, provider_at) -> None:
    elsewhere = {"api_base_url": f"{second.url}/org/", "api_hosts": [f"127.0.0.1:{scripted.port}"]}
    moving._moved = provider_at(**elsewhere)
    with pytest.raises(ForbiddenDestination):
        ApiSession(moving).get("user")
    assert second.requests == []


HEADERS = [
    ({}, "Authorization"),
    ({"header": "X-Api-Token", "scheme": ""}, "X-Api-Token"),
]


@pytest.mark.compliance("D37")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(("api", "header"), HEADERS)
def test_a_redirect_to_another_origin_is_followed_without_the_token(
    scripted, second, open_session, status, api, header
) -> None:
    scripted.on("/api/file", Answer(status, headers={"Location": f"{second.url}/file"}))
    second.on("/file", Answer(body={"x": 1}))
    key = {"headers": {"X-Site-Key": "key"}}
    assert open_session(api={**api, **key}).get("file").json() == {"x": 1}
    assert {header, "X-Site-Key"} <= scripted.asked("/api/file")[0].headers.keys()
    (request,) = second.asked("/file")
    assert not {header, "Authorization", "Proxy-Authorization", "X-Site-Key"} & request.headers.keys()


@pytest.mark.compliance("D37")
@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_to_another_host_of_api_hosts_keeps_the_token(
    scripted, second, open_session, status
) -> None:
    hosts = [f"127.0.0.1:{scripted.port}", f"127.0.0.1:{second.port}"]
    scripted.on("/api/file", Answer(status, headers={"Location": f"{second.url}/file"}))
    second.on("/file", Answer(401), Answer(body={}))
    http = open_session(api_hosts=hosts)
    assert http.post("file", json={"a": 1}).status_code == 200
    assert tokens_sent(second, "/file") == ["Bearer token-0", "Bearer token-1"]
    assert [one.method for one in second.asked("/file")] == ["GET" if status == 302 else "POST"] * 2


@pytest.mark.compliance("D37")
def test_a_redirect_never_returns_a_token_that_a_host_between_has_lost(
    scripted, second, open_session
) -> None:
    third = ScriptedServer()
    hosts = [f"127.0.0.1:{scripted.port}", f"127.0.0.1:{third.port}"]
    scripted.on("/api/file", Answer(302, headers={"Location": f"{second.url}/file"}))
    second.on("/file", Answer(302, headers={"Location": f"{third.url}/file"}))
    third.on("/file", Answer(body={}))
    assert open_session(api_hosts=hosts).get("file").status_code == 200
    assert tokens_sent(second, "/file") == tokens_sent(third, "/file") == [None]
    third.close()


@pytest.mark.compliance("D37")
@pytest.mark.parametrize(
    ("hosts", "source", "target", "keeps"),
    [
        (["a.example", "b.example"], "https://a.example", "https://b.example", True),
        (["a.example", "*.b.example"], "https://a.example", "https://x.b.example", False),
        (["a.example", "*.b.example"], "https://a.example", "https://*.b.example", False),
        (["a.example", "b.example"], "https://a.example", "https://b.example:8443", False),
        (["a.example", "b.example"], "https://a.example", "https://b.example.evil.example", False),
        (["a.example", "localhost"], "https://a.example", "http://localhost", False),
        (["a.example"], "https://a.example", "https://b.example", False),
    ],
)
def test_only_a_host_that_is_named_in_full_keeps_the_token(hosts, source, target, keeps) -> None:
    bearer = Bearer(acme(api_hosts=hosts))
    assert bearer.survives_redirect(origin_of(source), origin_of(target)) is keeps


@pytest.mark.compliance("D37")
def test_a_token_does_not_come_back_by_way_of_another_origin(scripted, second, open_session) -> None:
    scripted.on("/api/file", Answer(302, headers={"Location": f"{second.url}/file"}))
    second.on("/file", Answer(302, headers={"Location": f"{scripted.url}/api/again"}))
    scripted.on("/api/again", Answer(body={}))
    open_session().get("file")
    assert tokens_sent(scripted, "/api/again") == [None]


def test_a_redirect_within_the_origin_keeps_the_token(scripted, open_session) -> None:
    scripted.on("/api/old", Answer(307, headers={"Location": "/api/new"}))
    scripted.on("/api/new", Answer(body={}))
    open_session().post("old", json={"a": 1})
    assert tokens_sent(scripted, "/api/new") == ["Bearer token-0"]
    assert scripted.asked("/api/new")[0].body == b'{"a": 1}'


@pytest.mark.compliance("D38")
@pytest.mark.parametrize(
    "location",
    [
        "http://api.example/",
        "http://evil.example/",
        "ftp://api.example/",
        "file:///etc/passwd",
        "https://user:password@evil.example/",
        "http://127.0.0.1.evil.example/",
    ],
)
def test_a_redirect_down_to_http_is_not_followed(scripted, open_session, location: str) -> None:
    scripted.on("/api/file", Answer(302, headers={"Location": location}))
    with pytest.raises(ForbiddenDestination):
        open_session().get("file")


@pytest.mark.compliance("A23")
def test_a_certificate_without_a_trusted_issuer_is_refused(tls_server, open_session) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        open_session(api_base_url=f"{tls_server.url}/api/").get("user")
    assert tls_server.requests == []


@pytest.mark.compliance("A23")
def test_an_api_over_tls_gets_the_token(tls_server, certificate, open_session) -> None:
    tls_server.on("/api/user", Answer(body={}))
    open_session(api_base_url=f"{tls_server.url}/api/").get("user", verify=str(certificate))
    assert tokens_sent(tls_server, "/api/user") == ["Bearer token-0"]


# --- 401 ----------------------------------------------------------------------------------------


@pytest.mark.compliance("A22")
def test_a_401_is_answered_by_one_renewal_and_one_retry(scripted, open_session) -> None:
    scripted.on("/api/user", Answer(401, body={"error": "invalid_token"}), Answer(body={"login": "grace"}))
    http = open_session()
    response = http.get("user")
    assert response.json() == {"login": "grace"}
    assert [past.status_code for past in response.history] == [401]
    assert tokens_sent(scripted, "/api/user") == ["Bearer token-0", "Bearer token-1"]
    assert source_of(http).renewed_from == ["token-0"]


@pytest.mark.compliance("D40")
def test_a_second_401_is_the_callers(scripted, open_session) -> None:
    scripted.on("/api/user", Answer(401))
    http = open_session()
    assert http.get("user").status_code == 401
    assert len(scripted.asked("/api/user")) == 2
    assert source_of(http).renewed_from == ["token-0"]


@pytest.mark.compliance("D40")
def test_a_401_that_no_newer_token_corrects_is_the_callers(scripted, open_session) -> None:
    scripted.on("/api/user", Answer(401))
    assert open_session(renewals=0).get("user").status_code == 401
    assert len(scripted.asked("/api/user")) == 1


@pytest.mark.compliance("A22")
@pytest.mark.parametrize("status", [400, 403, 404, 429, 500])
def test_nothing_but_a_401_renews(scripted, open_session, status: int) -> None:
    refused = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
    scripted.on("/api/user", Answer(status, headers=refused))
    http = open_session()
    assert http.get("user").status_code == status
    assert source_of(http).renewed_from == []
    assert len(scripted.asked("/api/user")) == 1


@pytest.mark.compliance("D41")
@pytest.mark.parametrize(
    ("body", "arrived"),
    [
        ({"data": b"raw"}, b"raw"),
        ({"data": {"a": "1"}}, b"a=1"),
        ({"json": {"a": 1}}, b'{"a": 1}'),
        ({"data": ""}, b""),
    ],
)
def test_a_post_is_sent_again_in_full(scripted, open_session, body, arrived: bytes) -> None:
    scripted.on("/api/things", Answer(401), Answer(201))
    assert open_session().post("things", **body).status_code == 201
    assert [request.body for request in scripted.asked("/api/things")] == [arrived, arrived]


@pytest.mark.compliance("D41")
@pytest.mark.parametrize("position", [0, 3])
def test_a_file_is_rewound_to_where_it_was(scripted, open_session, position: int) -> None:
    scripted.on("/api/files", Answer(401), Answer(201))
    file = io.BytesIO(b"abc" + b"x" * 100_000)
    file.seek(position)
    assert open_session().put("files", data=file).status_code == 201
    first, again = (request.body for request in scripted.asked("/api/files"))
    assert first == again == file.getvalue()[position:]


@pytest.mark.compliance("D41")
def test_an_upload_is_sent_again_in_full(scripted, open_session) -> None:
    scripted.on("/api/files", Answer(401), Answer(201))
    open_session().post("files", files={"file": ("a.txt", b"x" * 1000)})
    first, again = (request.body for request in scripted.asked("/api/files"))
    assert first == again


class Pipe(io.BytesIO):
    """A stream of known length that cannot say where it is."""

    def tell(self) -> int:
        raise OSError("a pipe has no position")

    def __len__(self) -> int:
        return len(self.getvalue())


@pytest.mark.compliance("D41")
def test_a_body_that_cannot_be_rewound_is_not_sent_again(scripted, open_session) -> None:
    scripted.on("/api/files", Answer(401))
    http = open_session()
    assert http.put("files", data=Pipe(b"abc")).status_code == 401
    assert [request.body for request in scripted.asked("/api/files")] == [b"abc"]
    assert source_of(http).renewed_from == ["token-0"]  # the next call has the newer token
    assert http.token_auth.source.current().access_token == "token-1"


@pytest.mark.compliance("D41")
def test_a_generator_is_not_sent_again(scripted, open_session) -> None:
    scripted.on("/api/files", Answer(401))
    assert open_session().put("files", data=(part for part in [b"a", b"b"])).status_code == 401
    assert [request.body for request in scripted.asked("/api/files")] == [b"ab"]


def test_a_streamed_answer_belongs_to_the_retry(scripted, open_session) -> None:
    scripted.on("/api/file", Answer(401, body=b"x" * 100_000), Answer(body=b"y" * 100_000))
    response = open_session().get("file", stream=True)
    assert b"".join(response.iter_content(1000)) == b"y" * 100_000


@pytest.mark.compliance("A22")
def test_a_redirect_after_a_renewal_carries_the_newer_token(scripted, open_session) -> None:
    scripted.on("/api/old", Answer(401), Answer(302, headers={"Location": "/api/new"}))
    scripted.on("/api/new", Answer(body={}))
    assert open_session().get("old").status_code == 200
    assert tokens_sent(scripted, "/api/new") == ["Bearer token-1"]


def test_a_401_after_a_redirect_is_answered_too(scripted, open_session) -> None:
    scripted.on("/api/old", Answer(302, headers={"Location": "/api/new"}))
    scripted.on("/api/new", Answer(401), Answer(body={}))
    assert open_session().get("old").status_code == 200
    assert tokens_sent(scripted, "/api/new") == ["Bearer token-0", "Bearer token-1"]


@pytest.mark.compliance("D40")
def test_a_401_of_another_host_says_nothing_about_the_token(scripted, second, open_session) -> None:
    scripted.on("/api/file", Answer(302, headers={"Location": f"{second.url}/file"}))
    second.on("/file", Answer(401))
    http = open_session()
    assert http.get("file").status_code == 401
    assert source_of(http).renewed_from == []
    assert tokens_sent(second, "/file") == [None]


def test_a_callers_hook_sees_the_answer_to_the_retry(scripted, open_session) -> None:
    scripted.on("/api/user", Answer(401), Answer(body={}))
    seen: list[int] = []
    hook = {"response": lambda response, **_: seen.append(response.status_code)}
    open_session().get("user", hooks=hook)
    assert seen == [200]


def test_a_source_that_gives_up_is_heard_by_the_caller(scripted, open_session) -> None:
    def give_up(rejected: Token) -> Token | None:
        raise ReauthorizationRequired("connect again")

    scripted.on("/api/user", Answer(401))
    http = open_session()
    source_of(http).renewed = give_up  # type: ignore[method-assign]
    with pytest.raises(requests.RequestException) as raised:
        http.get("user")
    assert isinstance(raised.value, ReauthorizationRequired)


@pytest.mark.compliance("D42")
def test_a_session_serves_several_threads(scripted, open_session) -> None:
    """Eight refusals fall on eight callers; a call that fails uses up two of them."""
    scripted.on("/api/user", *[Answer(401)] * 8, Answer(body={}))
    http = open_session(renewals=20)
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: http.get("user").status_code, range(200)))
    assert statuses.count(200) >= 196
    assert set(statuses) <= {200, 401}


# --- nothing leaks ------------------------------------------------------------------------------


@pytest.mark.compliance("D45")
@pytest.mark.parametrize("answer", [Answer(reset=True), Answer(silent=True), Answer(body=b"{}", cut=1)])
def test_a_failed_calls_error_is_cut_off_from_the_frames_that_hold_the_token(
    scripted, open_session, answer
) -> None:
    scripted.on("/api/user", answer)
    with pytest.raises(requests.RequestException) as raised:
        open_session(timeout=0.2).get("user")
    assert raised.value.__suppress_context__
    files = files_of(raised.value)
    assert not any("urllib3" in name or name.endswith("adapters.py") for name in files)


def test_a_call_whose_refresh_fails_after_a_401_leaves_no_socket_open(
    open_session, scripted, monkeypatch
) -> None:
    closed: list[int] = []
    close = requests.Response.close
    monkeypatch.setattr(
        requests.Response, "close", lambda self: (closed.append(self.status_code), close(self))[1]
    )
    scripted.on("/api/user", Answer(401, body=b"x" * 100))
    with open_session() as http:
        monkeypatch.setattr(http.auth.source, "renewed", fail)
        with pytest.raises(requests.RequestException, match="no refresh"):
            http.get("user")
    assert closed == [401]


def fail(rejected: Token) -> Token:
    raise requests.RequestException("no refresh")


@pytest.mark.compliance("D45")
def test_a_message_of_the_library_masks_tokens_in_its_url(open_session) -> None:
    """The message of a ConnectionError quotes the path and the query."""
    http = open_session()
    http.token_auth.bearer.hosts |= {("127.0.0.1", 9)}
    with pytest.raises(requests.ConnectionError, match=r"access_token=\[masked\]") as raised:
        http.get("http://127.0.0.1:9/api", params={"access_token": "canary-query", "page": 5})
    assert "page=5" in str(raised.value)
    assert raised.value.__context__ is None


@pytest.mark.compliance("D45")
@pytest.mark.parametrize("value", ["canary\n", " canary"])
def test_a_header_that_cannot_be_sent_is_not_quoted(open_session, value) -> None:
    with pytest.raises(requests.exceptions.InvalidHeader, match="line break") as raised:
        open_session().get("user", headers={"X-Key": value})
    assert "canary" not in str(raised.value)


def test_sessions_of_one_process_share_their_connections(scripted, open_session):
    scripted.on("/api/user", Answer(body={}))
    for _ in range(3):
        with open_session() as session:
            session.get("user")
    assert len(scripted.accepted) == 1


def test_closing_a_session_closes_what_it_left_unread(scripted, open_session):
    scripted.on("/api/user", Answer(body=b"x" * 1_000_000))
    with open_session() as session:
        unread = session.get("user", stream=True)
        first = next(unread.iter_content(10))
    assert first == b"x" * 10
    assert unread.raw.closed


def test_an_adapter_that_the_site_mounts_is_used_and_closed(scripted, open_session):
    closed: list[str] = []

    class Counting(requests.adapters.HTTPAdapter):
        def close(self) -> None:
            closed.append("closed")
            super().close()

    scripted.on("/api/user", Answer(body={}))
    with open_session() as session:
        session.mount(scripted.url, Counting())
        assert session.get("user").status_code == 200
    assert closed == ["closed"]


def test_a_proxy_of_the_request_wins_over_the_environment(scripted, second, open_session, monkeypatch):
    second.on("/api/user", Answer(body={"proxy": True}))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    answer = open_session().get(f"{scripted.url}/api/user", proxies={"http": second.url})
    assert answer.json() == {"proxy": True}
