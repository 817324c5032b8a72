"""One request to an authorization server, over real sockets and every fault that a server can have."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import time
import traceback
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import islice
from urllib.parse import unquote_plus

import pytest
from django.views.debug import ExceptionReporter

from oauth_connect.errors import ProviderMisconfigured, ProviderUnavailable
from tests.protocol.calls import HELD, asked_once, every_call, exchange
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.tokens import FRESH

NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    "changes",
    [
        {"client_secret": "canary-\udc80"},
        {"client_secret": "canary-\udc80", "token_endpoint_auth_method": "client_secret_post"},
        {"token_request": {"headers": {"X-Key": "canary-\u0141"}}},
    ],
    ids=["secret in the header", "secret in the body", "header"],
)
def test_what_cannot_be_encoded_is_a_fault_of_the_settings(scripted, client, changes) -> None:
    with pytest.raises(ProviderMisconfigured) as raised:
        client(**changes).refresh(HELD)
    assert raised.value.error == "unsendable"
    assert "canary" not in str(raised.value)
    assert scripted.requests == []


@pytest.mark.compliance("A14")
@pytest.mark.parametrize("secret", ["secret", "a:b+c%", "ö &=/?", "x" * 500])
@every_call
def test_basic_is_form_encoded_and_the_only_proof(scripted, client, secret, path, call) -> None:
    scripted.on(path, Answer(body=FRESH))
    call(client(client_id="id:with + %", client_secret=secret))
    request = asked_once(scripted, path)
    if path == "/userinfo":
        assert request.headers["Authorization"] == "Bearer canary-access"
        return
    scheme, _, encoded = request.headers["Authorization"].partition(" ")
    user, _, password = base64.b64decode(encoded).decode().partition(":")
    assert (scheme, unquote_plus(user), unquote_plus(password)) == ("Basic", "id:with + %", secret)
    assert not {"client_id", "client_secret"} & request.form.keys()


@pytest.mark.parametrize("path", ["/token", "/revoke", "/device"])
def test_raw_basic_sends_client_and_secret_as_they_are(scripted, client, path) -> None:
    device = {"device_code": "d", "user_code": "u", "verification_uri": "https://id.example/device"}
    scripted.on(path, Answer(body=device if path == "/device" else FRESH))
    server = client(
        client_id="aB/c+d=",
        client_secret="s%5^gis/h@+==:é",
        token_request={"basic": "raw"},
        device_authorization_endpoint=f"{scripted.url}/device",
    )
    calls = {
        "/token": exchange,
        "/revoke": lambda one: one.revoke(HELD),
        "/device": type(server).authorize_device,
    }
    calls[path](server)
    encoded = asked_once(scripted, path).headers["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(encoded).decode() == "aB/c+d=:s%5^gis/h@+==:é"


@pytest.mark.compliance("A14")
@pytest.mark.parametrize(
    ("entry", "in_body"),
    [
        (
            {"token_endpoint_auth_method": "client_secret_post"},
            {"client_id": "client", "client_secret": "secret"},
        ),
        ({"token_endpoint_auth_method": "none"}, {"client_id": "client"}),
        ({"client_secret": ""}, {"client_id": "client"}),
    ],
)
def test_proof_in_the_body_is_not_in_the_header_too(scripted, client, entry, in_body) -> None:
    scripted.on("/token", Answer(body=FRESH))
    exchange(client(**entry))
    request = asked_once(scripted, "/token")
    assert "Authorization" not in request.headers
    assert {name: request.form[name] for name in request.form if name.startswith("client")} == in_body


def test_a_providers_own_shape_of_request_is_kept(scripted, client) -> None:
    scripted.on("/token", Answer(body=FRESH))
    quirks = {"body": "json", "client_id_parameter": "client_key", "headers": {"X-Version": "2"}}
    exchange(client(token_endpoint_auth_method="client_secret_post", token_request=quirks))
    request = asked_once(scripted, "/token")
    sent = json.loads(request.body)
    assert (sent["client_key"], sent["code"]) == ("client", "the code")
    assert request.headers["X-Version"] == "2"


@pytest.mark.compliance("C-urllib3")
@every_call
def test_no_compression_is_asked_for(scripted, client, path, call) -> None:
    scripted.on(path, Answer(body=FRESH))
    call(client())
    assert asked_once(scripted, path).headers["Accept-Encoding"] == "identity"


@pytest.mark.compliance("D39")
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
@every_call
def test_netrc_is_ignored(scripted, client, netrc, method, path, call) -> None:
    scripted.on(path, Answer(body=FRESH))
    call(client(token_endpoint_auth_method=method))
    sent = asked_once(scripted, path).headers.get("Authorization", "")
    assert base64.b64encode(b"netrc-user:netrc-password").decode() not in sent
    assert (sent == "") is (method == "client_secret_post" and path != "/userinfo")


@pytest.mark.compliance("D39")
def test_a_probe_ignores_netrc(scripted, client, netrc) -> None:
    scripted.on("/token", Answer(status=405))
    server = client()
    server.probe(server.provider.token_endpoint)
    assert "Authorization" not in asked_once(scripted, "/token").headers


def test_no_cookie_is_kept_from_one_exchange_to_the_next(scripted, client) -> None:
    scripted.on("/token", Answer(body=FRESH, headers={"Set-Cookie": "session=1; Path=/"}))
    server = client()
    exchange(server)
    exchange(server)
    assert all("Cookie" not in request.headers for request in scripted.asked("/token"))


def test_the_client_id_may_be_sent_in_addition_to_basic(scripted, client) -> None:
    scripted.on("/token", Answer(body=FRESH))
    client(token_request={"repeat_client_id": True}).refresh(HELD)
    request = asked_once(scripted, "/token")
    basic = "Basic " + base64.b64encode(b"client:secret").decode()
    assert (request.headers["Authorization"], request.form["client_id"]) == (basic, "client")
    assert "client_secret" not in request.form


# --- failures and Retry-After -------------------------------------------------------------------


@pytest.mark.compliance("D32")
@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    "body", [b"", b"<html>", {"error": "invalid_request"}, {"error": "invalid_client"}], ids=str
)
@every_call
def test_a_failing_server_is_unavailable_whatever_it_sends(
    scripted, client, status, body, path, call
) -> None:
    scripted.on(path, Answer(status, body=body))
    with pytest.raises(ProviderUnavailable) as raised:
        call(client())
    assert (raised.value.code, raised.value.answer_lost) == (f"http_{status}", False)
    assert len(scripted.asked(path)) == 1


@pytest.mark.compliance("D32")
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("-5", 0),
        ("999999999", 3600),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        ("Mon, 01 Jan 2026 99999999999:00:00 GMT", None),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0),
        (format_datetime(NOW + timedelta(days=9), usegmt=True), 3600),
    ],
    ids=["2 min", "0", "negative", "long", "nan", "inf", "word", "empty", "odd date", "past", "far future"],
)
def test_retry_after_is_read_and_bounded(scripted, client, value, seconds) -> None:
    scripted.on("/token", Answer(503, headers={"Retry-After": value}))
    with pytest.raises(ProviderUnavailable) as raised:
        client().refresh(HELD)
    assert raised.value.retry_after == seconds


@pytest.mark.compliance("D32")
def test_retry_after_may_be_a_date(scripted, client) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    scripted.on("/token", Answer(429, headers={"Retry-After": date}))
    with pytest.raises(ProviderUnavailable) as raised:
        client().refresh(HELD)
    assert 50 < (raised.value.retry_after or 0) <= 100


def test_a_token_is_taken_from_an_answer_with_an_absurd_retry_after(scripted, client) -> None:
    absurd = {"Retry-After": "Mon, 01 Jan 2026 99999999999:00:00 GMT"}
    scripted.on("/token", Answer(body=FRESH, headers=absurd))
    assert client().refresh(HELD).refresh_token == "refresh-1"


# --- redirects ----------------------------------------------------------------------------------


@pytest.mark.compliance("D25")
@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@every_call
def test_no_redirect_is_followed(scripted, second, client, status, path, call) -> None:
    second.on("/stolen", Answer(body=FRESH))
    scripted.on(path, Answer(status, headers={"Location": f"{second.url}/stolen"}))
    scripted.on("/stolen", Answer(body=FRESH))
    with pytest.raises(ProviderMisconfigured) as raised:
        call(client())
    assert raised.value.error == "redirected"
    assert second.requests == []
    assert len(scripted.requests) == 1


# --- limits of size and time --------------------------------------------------------------------


BOMB = gzip.compress(b"\0" * 50_000_000, 9)


ZIPPED = {"Content-Encoding": "gzip"}


FLOODS = {
    "100 MB": Answer(body=b" " * 1_000_000, repeat=100),
    "100 MB of an error page": Answer(400, body=b" " * 1_000_000, repeat=100),
    "a gzip bomb": Answer(body=BOMB, headers=ZIPPED),
    "a bomb in an error page": Answer(404, body=BOMB, headers=ZIPPED),
    "100 MB of a redirect": Answer(307, body=b" " * 1_000_000, repeat=100, headers={"Location": "/x"}),
    "a bomb in a redirect": Answer(302, body=BOMB, headers={**ZIPPED, "Location": "/elsewhere"}),
}


@pytest.mark.compliance("D23")
@pytest.mark.compliance("C-urllib3")
@pytest.mark.parametrize("answer", FLOODS.values(), ids=FLOODS)
@every_call
def test_a_flood_is_stopped_and_does_not_fill_the_memory(scripted, client, answer, path, call) -> None:
    scripted.on(path, answer)
    server = client()
    tracemalloc.start()
    try:
        with pytest.raises(ProviderUnavailable) as raised:
            call(server)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert raised.value.answer_lost
    assert peak < 20_000_000


def test_a_large_answer_within_the_limit_is_read(scripted, client) -> None:
    scripted.on("/token", Answer(body={**FRESH, "padding": "x" * 1_000_000}))
    assert len(exchange(client()).extra["padding"]) == 1_000_000


MAX_SECONDS = 15.0  # many deadlines, and less than the shortest of these responses takes


SLOW = {
    "no first byte": Answer(silent=True),
    "a body in drips": Answer(body=b" " * 1000, drip=0.1),
    "a header in drips": Answer(head_drip=0.1),
    "an error page in drips": Answer(500, body=b" " * 1000, drip=0.1),
}


@pytest.mark.compliance("D24")
@pytest.mark.parametrize("answer", SLOW.values(), ids=SLOW)
@every_call
def test_an_exchange_ends_at_its_deadline(scripted, client, answer, path, call) -> None:
    scripted.on(path, answer)
    started = time.monotonic()
    with pytest.raises(ProviderUnavailable) as raised:
        call(client(timeout=0.3))
    assert time.monotonic() - started < MAX_SECONDS
    assert (raised.value.code, raised.value.answer_lost) == ("timeout", True)


# --- lost responses, and requests that were not sent --------------------------------------------


LOST = {
    "reset": Answer(reset=True),
    "closed without a word": Answer(cut=-1),
    "a body cut short": Answer(body=FRESH, cut=10),
    "a body that never comes": Answer(body=FRESH, cut=0),
    "a sick server's body cut short": Answer(503, body=b"x" * 100, cut=10),
    "no gzip": Answer(body=b"not gzip", headers=ZIPPED),
}


@pytest.mark.compliance("D31")
@pytest.mark.parametrize("answer", LOST.values(), ids=LOST)
@every_call
def test_an_incomplete_response_leaves_doubt_and_the_request_is_not_repeated(
    scripted, client, answer, path, call
) -> None:
    scripted.on(path, answer)
    with pytest.raises(ProviderUnavailable) as raised:
        call(client())
    assert (raised.value.code, raised.value.answer_lost) == ("answer_lost", True)
    assert len(scripted.asked(path)) == 1


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses. It stays bound, so that no other process listens there meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


@every_call
def test_a_server_that_is_not_there_leaves_no_doubt(client, closed_port, path, call) -> None:
    nowhere = f"http://127.0.0.1:{closed_port}{path}"
    names = ("token_endpoint", "revocation_endpoint", "userinfo_endpoint")
    with pytest.raises(ProviderUnavailable) as raised:
        call(client(**dict.fromkeys(names, nowhere)))
    assert (raised.value.code, raised.value.answer_lost) == ("connection_refused", False)


def test_a_name_that_does_not_resolve_leaves_no_doubt(client) -> None:
    with pytest.raises(ProviderUnavailable) as raised:
        exchange(client(token_endpoint="https://nowhere.invalid/token"))
    assert (raised.value.code, raised.value.answer_lost) == ("host_not_found", False)


# --- TLS ----------------------------------------------------------------------------------------


@pytest.mark.compliance("A23")
@every_call
def test_a_certificate_without_a_trusted_issuer_is_refused(tls_server, client, path, call) -> None:
    tls_server.on(path, Answer(body=FRESH))
    names = ("token_endpoint", "revocation_endpoint", "userinfo_endpoint")
    with pytest.raises(ProviderUnavailable) as raised:
        call(client(**dict.fromkeys(names, f"{tls_server.url}{path}")))
    assert (raised.value.code, raised.value.answer_lost) == ("certificate_invalid", False)
    assert tls_server.requests == []


@pytest.mark.compliance("A23")
def test_a_certificate_that_is_trusted_is_accepted(tls_server, certificate, client, monkeypatch) -> None:
    """It shows that the test above refuses the certificate, and nothing else."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    tls_server.on("/token", Answer(body=FRESH))
    assert exchange(client(token_endpoint=f"{tls_server.url}/token")).access_token == "access-1"


@pytest.mark.compliance("D24")
def test_the_deadline_holds_inside_tls(tls_server, certificate, client, monkeypatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    tls_server.on("/token", SLOW["a body in drips"])
    started = time.monotonic()
    with pytest.raises(ProviderUnavailable, match="completely"):
        # Longer than the others' deadline: two threads must have shaken hands before it.
        exchange(client(timeout=2, token_endpoint=f"{tls_server.url}/token"))
    assert time.monotonic() - started < MAX_SECONDS


# --- proxies ------------------------------------------------------------------------------------


@pytest.fixture
def proxy(second: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    monkeypatch.setenv("HTTP_PROXY", f"http://proxy-user:proxy-password@127.0.0.1:{second.port}")
    return second


@pytest.mark.compliance("D39")
def test_a_proxy_is_used(scripted, proxy, client) -> None:
    proxy.on("/token", Answer(body=FRESH))
    assert exchange(client()).access_token == "access-1"
    assert asked_once(proxy, "/token").headers["Authorization"].startswith("Basic ")
    assert scripted.requests == []


@pytest.mark.compliance("D39")
def test_no_proxy_is_honoured_and_the_proxys_credentials_go_no_further(
    scripted, proxy, client, monkeypatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    scripted.on("/token", Answer(body=FRESH))
    exchange(client())
    assert "Proxy-Authorization" not in asked_once(scripted, "/token").headers
    assert proxy.requests == []


@pytest.mark.compliance("D24")
def test_the_deadline_holds_through_a_proxy(proxy, client) -> None:
    proxy.on("/token", SLOW["a body in drips"])
    started = time.monotonic()
    with pytest.raises(ProviderUnavailable):
        exchange(client(timeout=0.3))
    assert time.monotonic() - started < MAX_SECONDS


def test_a_proxy_that_is_not_there_leaves_no_doubt(client, closed_port, monkeypatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port}")
    with pytest.raises(ProviderUnavailable) as raised:
        exchange(client())
    assert (raised.value.code, raised.value.answer_lost) == ("proxy_failed", False)


# --- secrets ------------------------------------------------------------------------------------


@pytest.mark.compliance("D45")
@pytest.mark.parametrize("answer", [LOST["reset"], SLOW["no first byte"], Answer(503), FLOODS["100 MB"]])
@every_call
def test_no_failure_shows_a_secret(scripted, client, answer, path, call) -> None:
    scripted.on(path, answer)
    server = client(timeout=0.3, client_secret="canary-secret")
    with pytest.raises(ProviderUnavailable) as raised:
        call(server)
    frames = islice(traceback.walk_tb(raised.value.__traceback__), 2, None)
    assert all("oauth_connect" in frame.f_code.co_filename for frame, _ in frames)
    tb = raised.value.__traceback__.tb_next.tb_next  # without this test's own frames
    page = ExceptionReporter(None, type(raised.value), raised.value, tb)
    assert raised.value.__context__ is None
    for shown in (page.get_traceback_html(), page.get_traceback_text()):
        assert "canary-" not in shown
