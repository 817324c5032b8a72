"""The token in calls of httpx and httpx2, sync and async, over real sockets; the source lives in memory."""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest
from cryptography import x509

from oauth_connect.errors import ForbiddenDestination, ReauthorizationRequired
from oauth_connect.protocol.httpx import (
    MAX_BUFFERED,
    AsyncGuardedTransport,
    GuardedTransport,
    TokenAuth,
    origin_of,
)
from oauth_connect.protocol.net.addresses import AddressGuard
from oauth_connect.protocol.net.destination import Origin
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from tests.protocol.certificates import self_signed
from tests.protocol.providers import acme
from tests.protocol.test_session import (
    HEADERS,
    Source,
    each_place,
    moving_source,
    moving_to_another_host,
    tokens_sent,
)
from tests.protocol.urls import NOT_THE_API
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.waiting import TIMEOUT, Tally

ROOT = Path(__file__).resolve().parents[2]
# One for all: a client that makes its own reads a bundle of certificates for tens of milliseconds.
CERTIFICATES = ssl.create_default_context()


@dataclass(frozen=True)
class Kind:
    """One of the four clients that the auth object is for."""

    library: ModuleType
    is_async: bool

    def request(self, auth: Any, method: str, url: str, *, client: Any = None, **options: Any) -> Any:
        """Make one call with a client of this kind; ``client``: its settings."""
        settings = {"auth": auth, "timeout": 10, "verify": CERTIFICATES, **(client or {})}
        if self.is_async:
            return asyncio.run(self._request(settings, method, url, options))
        with self.library.Client(**settings) as http:
            return http.request(method, url, **options)

    async def _request(self, settings: Any, method: str, url: str, options: Any) -> Any:
        async with self.library.AsyncClient(**settings) as http:
            return await http.request(method, url, **options)

    def parts(self, *parts: bytes) -> Any:
        """A body that is made while it is sent."""
        return arriving(parts) if self.is_async else iter(parts)

    def __str__(self) -> str:
        return f"{self.library.__name__}-{'async' if self.is_async else 'sync'}"


async def arriving(parts: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


KINDS = [Kind(library, is_async) for library in (httpx, httpx2) for is_async in (False, True)]


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def source(provider_at: Callable[..., Provider]) -> Source:
    return Source(provider_at())


@pytest.fixture
def auth(source: Source) -> TokenAuth:
    return TokenAuth(source)


# --- placing the token --------------------------------------------------------------------------


@pytest.mark.compliance("A21")
@each_place
def test_the_token_is_in_a_header_and_never_in_the_url(
    scripted, kind, provider_at, api, header, value
) -> None:
    scripted.on("/api/user", Answer(body={}))
    auth = TokenAuth(Source(provider_at(api=api)))
    response = kind.request(auth, "GET", f"{scripted.url}/api/user", params={"q": "1"})
    (request,) = scripted.asked("/api/user")
    assert request.headers[header] == value
    assert request.query == {"q": "1"}
    assert "token-0" not in str(response.url)


@pytest.mark.compliance("D45")
@pytest.mark.parametrize("api", [{}, {"header": "X-Api-Token", "scheme": ""}])
def test_neither_request_nor_headers_show_the_token(scripted, kind, provider_at, api) -> None:
    scripted.on("/api/user", Answer(body={}))
    auth = TokenAuth(Source(provider_at(api=api)))
    response = kind.request(auth, "GET", f"{scripted.url}/api/user")
    sent = response.request
    shown = f"{response!r} {sent!r} {sent.headers!r} {sent.extensions!r} {auth!r}"
    assert "token-0" not in shown


@pytest.mark.compliance("D45")
def test_no_logger_of_the_libraries_shows_the_token(scripted, kind, auth, caplog) -> None:
    caplog.set_level("DEBUG")
    scripted.on("/api/user", Answer(401), Answer(body={}))
    kind.request(auth, "GET", f"{scripted.url}/api/user")
    assert any(record.name.startswith("httpcore") for record in caplog.records)
    assert "token-" not in caplog.text


def test_an_auth_object_is_not_pickled(auth) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(auth)


@pytest.mark.compliance("D39")
def test_the_bearer_wins_over_netrc_and_a_header_of_the_callers(scripted, kind, auth, netrc) -> None:
    scripted.on("/api/user", Answer(body={}))
    kind.request(auth, "GET", f"{scripted.url}/api/user", headers={"Authorization": "Basic eDp5"})
    assert tokens_sent(scripted, "/api/user") == ["Bearer token-0"]


# --- where it may go ----------------------------------------------------------------------------


@pytest.mark.compliance("A24", "D36", "D38")
@pytest.mark.parametrize("url", [url for url in NOT_THE_API if url])
def test_nothing_is_sent_elsewhere(kind, url: str) -> None:
    """The address is refused before a token is requested, by us or by the library (as no URL)."""
    source = Source(acme())
    source.current = pytest.fail  # type: ignore[assignment]
    refused = (ForbiddenDestination, kind.library.InvalidURL, kind.library.UnsupportedProtocol)
    with pytest.raises(refused):
        kind.request(TokenAuth(source), "GET", url)


@pytest.mark.compliance("D36")
def test_a_url_that_two_parsers_read_differently_is_refused() -> None:
    class Odd:
        scheme, raw_host, port = "https", b"evil.example", None

        def __str__(self) -> str:
            return "https://api.example/"

    with pytest.raises(ForbiddenDestination, match="Two parsers"):
        origin_of(Odd())


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://API.example/x", "api.example", 443),
        ("https://[::1]:8443/", "[::1]", 8443),
        ("http://127.0.0.1/", "127.0.0.1", 80),
    ],
)
@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
def test_the_origin_of_a_librarys_url_is_that_of_its_text(library, url, host, port) -> None:
    assert origin_of(library.URL(url)) == Origin(url.partition(":")[0], host, port)


@pytest.mark.compliance("D36")
def test_another_port_of_the_same_host_is_another_host(second, kind, auth) -> None:
    with pytest.raises(ForbiddenDestination):
        kind.request(auth, "GET", f"{second.url}/api/user")
    assert second.requests == []


@pytest.mark.compliance("D37")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(("api", "header"), HEADERS)
def test_a_redirect_to_another_origin_is_followed_without_the_token(
    scripted, second, kind, provider_at, status, api, header
) -> None:
    """By a client that is the caller's own: nothing but the auth object is ours."""
    scripted.on("/api/file", Answer(status, headers={"Location": f"{second.url}/file"}))
    second.on("/file", Answer(body={"x": 1}))
    auth = TokenAuth(Source(provider_at(api=api)))
    response = kind.request(auth, "GET", f"{scripted.url}/api/file", follow_redirects=True)
    assert response.json() == {"x": 1}
    assert header in scripted.asked("/api/file")[0].headers
    (request,) = second.asked("/file")
    assert not {header, "Authorization"} & request.headers.keys()


@pytest.mark.compliance("D37")
@pytest.mark.parametrize(("api", "header"), HEADERS)
def test_a_token_does_not_come_back_by_way_of_another_origin(
    scripted, second, kind, provider_at, api, header
) -> None:
    scripted.on("/api/file", Answer(302, headers={"Location": f"{second.url}/file"}))
    second.on("/file", Answer(302, headers={"Location": f"{scripted.url}/api/again"}))
    scripted.on("/api/again", Answer(401))
    source = Source(provider_at(api=api))
    kind.request(TokenAuth(source), "GET", f"{scripted.url}/api/file", follow_redirects=True)
    assert tokens_sent(scripted, "/api/again", header) == [None]
    assert source.renewed_from == [], "a 401 without our token says nothing about it"


def test_a_redirect_within_the_origin_keeps_the_token(scripted, kind, auth) -> None:
    scripted.on("/api/old", Answer(307, headers={"Location": "/api/new"}))
    scripted.on("/api/new", Answer(body={}))
    kind.request(auth, "POST", f"{scripted.url}/api/old", json={"a": 1}, follow_redirects=True)
    assert tokens_sent(scripted, "/api/new") == ["Bearer token-0"]


# --- an organisation that moves -----------------------------------------------------------------


def test_a_call_that_learns_of_a_move_is_repeated_at_the_new_place(
    scripted, second, kind, provider_at
) -> None:
    client = {"base_url": f"{scripted.url}/api/"}
    auth = TokenAuth(moving_source(scripted, second, provider_at))
    for _ in range(2):  # the second call's client still has the old base_url
        response = kind.request(auth, "GET", "user", client=client, params={"page": "2"})
        assert response.json() == {"at": "second"}
    assert tokens_sent(second, "/org/user") == ["Bearer token-1"] * 2
    assert second.asked("/org/user")[0].query == {"page": "2"}
    assert second.asked("/org/user")[0].headers["Host"] == f"127.0.0.1:{second.port}"
    assert len(scripted.asked("/api/user")) == 1


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_cookie_stays_with_the_host_that_set_it(scripted, second, provider_at, library) -> None:
    auth = TokenAuth(moving_to_another_host(scripted, second, provider_at))
    with library.Client(auth=auth, verify=CERTIFICATES) as http:
        http.get(f"{scripted.url}/api/login")
        for _ in range(2):
            assert http.get(f"{scripted.url}/api/user").status_code == 200
        http.get(f"http://localhost:{second.port}/org/user")
    assert [one.headers.get("Cookie") for one in scripted.requests] == [None, "first=1"]
    assert [one.headers.get("Cookie") for one in second.requests] == [None, None, "second=1"]


# --- 401 ----------------------------------------------------------------------------------------


@pytest.mark.compliance("A22")
@pytest.mark.parametrize("api", [{}, {"header": "X-Api-Token", "scheme": ""}])
def test_a_401_is_answered_by_one_renewal_and_one_retry(scripted, kind, provider_at, api) -> None:
    scripted.on("/api/user", Answer(401, body={"error": "invalid_token"}), Answer(body={"login": "grace"}))
    source = Source(provider_at(api=api))
    response = kind.request(TokenAuth(source), "GET", f"{scripted.url}/api/user")
    assert response.json() == {"login": "grace"}
    assert [past.status_code for past in response.history] == [401]
    sent = tokens_sent(scripted, "/api/user", source.provider.api.header)
    assert [value.rpartition("-")[2] for value in sent if value] == ["0", "1"]
    assert source.renewed_from == ["token-0"]


@pytest.mark.compliance("D40")
def test_a_second_401_is_the_callers(scripted, kind, auth, source) -> None:
    scripted.on("/api/user", Answer(401))
    assert kind.request(auth, "GET", f"{scripted.url}/api/user").status_code == 401
    assert len(scripted.asked("/api/user")) == 2
    assert source.renewed_from == ["token-0"]


@pytest.mark.compliance("D40")
def test_a_401_that_no_newer_token_corrects_is_the_callers(scripted, kind, auth, source) -> None:
    scripted.on("/api/user", Answer(401))
    source.renewals = 0
    assert kind.request(auth, "GET", f"{scripted.url}/api/user").status_code == 401
    assert len(scripted.asked("/api/user")) == 1


@pytest.mark.compliance("A22")
@pytest.mark.parametrize("status", [400, 403, 404, 429, 500])
def test_nothing_but_a_401_renews(scripted, kind, auth, source, status: int) -> None:
    refused = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
    scripted.on("/api/user", Answer(status, headers=refused))
    assert kind.request(auth, "GET", f"{scripted.url}/api/user").status_code == status
    assert source.renewed_from == []
    assert len(scripted.asked("/api/user")) == 1


@pytest.mark.compliance("A22")
def test_a_redirect_after_a_renewal_carries_the_newer_token(scripted, kind, auth) -> None:
    scripted.on("/api/old", Answer(401), Answer(302, headers={"Location": "/api/new"}))
    scripted.on("/api/new", Answer(body={}))
    kind.request(auth, "GET", f"{scripted.url}/api/old", follow_redirects=True)
    assert tokens_sent(scripted, "/api/new") == ["Bearer token-1"]


def test_a_401_after_a_redirect_is_answered_too(scripted, kind, auth) -> None:
    scripted.on("/api/old", Answer(302, headers={"Location": "/api/new"}))
    scripted.on("/api/new", Answer(401), Answer(body={}))
    response = kind.request(auth, "GET", f"{scripted.url}/api/old", follow_redirects=True)
    assert response.status_code == 200
    assert tokens_sent(scripted, "/api/new") == ["Bearer token-0", "Bearer token-1"]


def test_a_source_that_gives_up_is_heard_by_the_caller(scripted, kind, auth, source) -> None:
    def give_up(rejected: Token) -> Token | None:
        raise ReauthorizationRequired("connect again")

    scripted.on("/api/user", Answer(401))
    source.renewed = give_up
    with pytest.raises(ReauthorizationRequired):
        kind.request(auth, "GET", f"{scripted.url}/api/user")


# --- bodies -------------------------------------------------------------------------------------


@pytest.mark.compliance("D41")
@pytest.mark.parametrize(
    ("body", "arrived"),
    [
        ({"content": b"raw"}, b"raw"),
        ({"data": {"a": "1"}}, b"a=1"),
        ({"content": ""}, b""),
        ({}, b""),
    ],
)
def test_a_post_is_sent_again_in_full(scripted, kind, auth, body, arrived: bytes) -> None:
    scripted.on("/api/things", Answer(401), Answer(201))
    assert kind.request(auth, "POST", f"{scripted.url}/api/things", **body).status_code == 201
    assert [request.body for request in scripted.asked("/api/things")] == [arrived, arrived]


@pytest.mark.compliance("D41")
def test_a_small_upload_is_sent_again_in_full(scripted, kind, auth) -> None:
    scripted.on("/api/files", Answer(401), Answer(201))
    files = {"file": ("a.txt", io.BytesIO(b"x" * 1000))}
    assert kind.request(auth, "POST", f"{scripted.url}/api/files", files=files).status_code == 201
    first, again = (request.body for request in scripted.asked("/api/files"))
    assert first == again
    assert b"x" * 1000 in first


@pytest.mark.compliance("D41")
def test_a_large_upload_is_not_held_in_memory_and_not_sent_again(scripted, kind, auth, source) -> None:
    scripted.on("/api/files", Answer(401))
    files = {"file": ("a.txt", io.BytesIO(b"x" * MAX_BUFFERED))}
    assert kind.request(auth, "POST", f"{scripted.url}/api/files", files=files).status_code == 401
    (request,) = scripted.asked("/api/files")
    assert b"x" * MAX_BUFFERED in request.body
    assert source.renewed_from == ["token-0"], "the next call has the newer token"


@pytest.mark.compliance("D41")
def test_a_file_that_is_small_is_sent_again_from_where_it_was(scripted, auth) -> None:
    scripted.on("/api/files", Answer(401), Answer(201))
    file = io.BytesIO(b"abc" + b"x" * 1000)
    file.seek(3)
    with httpx.Client(auth=auth) as http:
        http.put(f"{scripted.url}/api/files", content=file, headers={"Content-Length": "1000"})
    first, again = (request.body for request in scripted.asked("/api/files"))
    assert first == again == b"x" * 1000


@pytest.mark.compliance("D41")
def test_a_generator_is_not_sent_again(scripted, kind, auth) -> None:
    scripted.on("/api/files", Answer(401))
    body = kind.parts(b"a", b"b")
    assert kind.request(auth, "PUT", f"{scripted.url}/api/files", content=body).status_code == 401
    assert [request.body for request in scripted.asked("/api/files")] == [b"ab"]


def test_a_streamed_answer_belongs_to_the_retry(scripted, source) -> None:
    scripted.on("/api/file", Answer(401, body=b"x" * 100_000), Answer(body=b"y" * 100_000))
    with (
        httpx.Client(auth=TokenAuth(source)) as http,
        http.stream("GET", f"{scripted.url}/api/file") as response,
    ):
        assert b"".join(response.iter_bytes(1000)) == b"y" * 100_000


# --- async --------------------------------------------------------------------------------------


class Slow(Source):
    """Waits for ``ready`` before each token, as a refresh does. Records which thread called it."""

    ready: Callable[[], object]

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider)
        self.threads: list[str] = []

    def current(self) -> Token:
        self.threads.append(threading.current_thread().name)
        self.ready()
        return super().current()


@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
def test_a_slow_source_is_asked_once_by_many_and_never_in_the_event_loop(
    scripted, provider_at, library: ModuleType
) -> None:
    """A token takes as long as twenty beats of the event loop."""
    scripted.on("/api/user", Answer(body={}))
    source = Slow(provider_at())
    beats = Tally("the event loop beat")
    source.ready = lambda: beats.wait_for(20)

    async def call_together() -> None:
        async with library.AsyncClient(auth=TokenAuth(source), timeout=TIMEOUT) as http:
            heartbeat = asyncio.create_task(beat())
            await asyncio.gather(*[http.get(f"{scripted.url}/api/user") for _ in range(20)])
            heartbeat.cancel()

    async def beat() -> None:
        while True:
            await asyncio.sleep(0.01)
            beats.add()

    asyncio.run(call_together())
    assert len(source.threads) == 1
    assert source.threads[0].startswith("oauth_connect-async")
    assert len(scripted.asked("/api/user")) == 20


def test_a_source_with_async_methods_of_its_own_is_asked_by_these(scripted, provider_at) -> None:
    class Asynchronous(Source):
        async def acurrent(self) -> Token:
            return Token("from-the-loop", datetime.now(UTC))

        async def arenewed(self, rejected: Token) -> Token | None:
            return Token("renewed-in-the-loop", datetime.now(UTC))

    scripted.on("/api/user", Answer(401), Answer(body={}))
    KINDS[1].request(TokenAuth(Asynchronous(provider_at())), "GET", f"{scripted.url}/api/user")
    assert tokens_sent(scripted, "/api/user") == ["Bearer from-the-loop", "Bearer renewed-in-the-loop"]


FORKED = """
import asyncio, os
from oauth_connect.protocol.background import background

async def ask(): return await background.once("key", lambda: "answered")

assert asyncio.run(ask()) == "answered"
child = os.fork()
if not child:
    os._exit(0 if asyncio.run(asyncio.wait_for(ask(), 50)) == "answered" else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_threads_of_its_own(without) -> None:
    finished = without(FORKED)
    assert finished.returncode == 0, finished.stderr


# --- where one library is, or none --------------------------------------------------------------


@pytest.fixture
def without(tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Run code in a Python without some packages, and without any settings of Django's."""

    def run(code: str, *missing: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "code.py").write_text(HIDE.format(missing=missing) + code, encoding="utf-8")
        environ = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
        return subprocess.run(
            [sys.executable, str(tmp_path / "code.py")],
            env={**environ, "PYTHONPATH": str(ROOT)},
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


HIDE = """
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {missing} else found(name, *rest)
"""
ONE_CALL = """
import sys
from datetime import UTC, datetime
from {library} import Client, MockTransport, Response
from oauth_connect.protocol.httpx import TokenAuth
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token

class Source:
    provider = Provider.from_mapping("acme", {{
        "client_id": "client", "authorization_endpoint": "https://id.example/authorize",
        "token_endpoint": "https://id.example/token", "api_base_url": "https://api.example/"}})
    def current(self): return Token("a-token", datetime.now(UTC))
    def renewed(self, rejected): return None

answer = MockTransport(lambda request: Response(200, text=request.headers["Authorization"]))
print(Client(auth=TokenAuth(Source()), transport=answer).get("https://api.example/").text)
assert "django" not in sys.modules
"""


@pytest.mark.process
@pytest.mark.parametrize(("library", "missing"), [("httpx", "httpx2"), ("httpx2", "httpx")])
def test_one_of_the_two_libraries_is_enough_and_django_is_not_needed(without, library, missing) -> None:
    finished = without(ONE_CALL.format(library=library), missing)
    assert finished.stdout == "Bearer a-token\n", finished.stderr


@pytest.mark.process
def test_without_either_the_import_says_what_to_install(without) -> None:
    finished = without("import oauth_connect.protocol.httpx", "httpx", "httpx2")
    assert finished.returncode == 1
    assert "pip install 'django-oauth-connect[httpx]'" in finished.stderr.splitlines()[-1]


# --- the guard ----------------------------------------------------------------------------------


def test_a_connection_that_proved_to_be_a_host_serves_no_other_at_its_address(
    tmp_path, resolver, kind
) -> None:
    resolver.update({"one.example": [["127.0.0.1"]], "other.example": [["127.0.0.1"]]})
    certificate = self_signed(x509.DNSName("one.example"), tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    server = ScriptedServer(tls)
    server.on("/x", Answer(307, headers={"Location": f"https://other.example:{server.port}/y"}))
    transport: Any = kind.library.AsyncHTTPTransport if kind.is_async else kind.library.HTTPTransport
    guarded: Any = AsyncGuardedTransport if kind.is_async else GuardedTransport
    make = partial(transport, verify=ssl.create_default_context(cafile=str(certificate)))
    guard = AddressGuard(frozenset({"one.example", "other.example"}))
    try:
        with pytest.raises(kind.library.ConnectError, match=r"other\.example"):
            kind.request(
                None,
                "GET",
                f"https://one.example:{server.port}/x",
                client={"transport": guarded(make, guard), "follow_redirects": True},
            )
        assert [one.path for one in server.requests] == ["/x"]
    finally:
        server.close()
