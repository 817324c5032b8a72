"""Certificate, host name, port and proxy: each cause has a code and a sentence, and nothing was sent."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography import x509

from oauth_connect.errors import CallError, ProviderUnavailable
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.grants.error_codes import shown
from oauth_connect.protocol.grants.refusals import TRANSIENT, error_for
from oauth_connect.protocol.metadata.discovery import fetch
from oauth_connect.protocol.net.addresses import AddressGuard
from oauth_connect.protocol.net.causes import CAUSES, explained
from tests.protocol.calls import HELD, exchange
from tests.protocol.certificates import self_signed
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.tokens import FRESH

pytestmark = pytest.mark.once
Client = Callable[..., AuthorizationServer]


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses. It stays bound, so that no other process listens there meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


def unreachable(call: Callable[[], Any]) -> ProviderUnavailable:
    with pytest.raises(ProviderUnavailable) as raised:
        call()
    assert not raised.value.answer_lost
    assert "othing was sent" in str(raised.value)
    return raised.value


def test_an_untrusted_certificate_names_the_host_and_the_variable_to_set(
    tls_server: ScriptedServer, client: Client
) -> None:
    error = unreachable(lambda: exchange(client(token_endpoint=f"{tls_server.url}/token")))

    assert error.code == "certificate_invalid"
    assert all(
        part in str(error)
        for part in (f"127.0.0.1:{tls_server.port}", "self-signed certificate", "REQUESTS_CA_BUNDLE")
    )


def test_a_certificate_for_another_name_says_so(
    client: Client, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = self_signed(x509.DNSName("another.example"), tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server = ScriptedServer(context)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    try:
        error = unreachable(lambda: exchange(client(token_endpoint=f"{server.url}/token")))
    finally:
        server.close()

    assert error.code == "certificate_invalid"
    assert "not valid for '127.0.0.1'" in str(error)


def test_a_missing_file_of_certificates_leaves_no_doubt(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "gone.pem"))

    for call in (
        lambda: exchange(client(token_endpoint="https://127.0.0.1:1/token")),
        lambda: client().probe("https://127.0.0.1:1/token"),
    ):
        assert unreachable(call).code == "certificate_invalid"


def test_https_at_a_port_of_plain_http_leaves_no_doubt(scripted: ScriptedServer, client: Client) -> None:
    url = scripted.url.replace("http://", "https://")

    error = unreachable(lambda: exchange(client(token_endpoint=f"{url}/token")))

    assert error.code == "unreachable"
    assert "plain http" in str(error)


@pytest.mark.parametrize(
    ("status", "variable", "url"),
    [
        (407, "HTTPS_PROXY", "https://id.example/token"),
        (403, "HTTPS_PROXY", "https://id.example/token"),
        (407, "HTTP_PROXY", "http://127.0.0.1:1/token"),
    ],
)
def test_a_proxy_that_refuses_is_named_without_its_password(
    status: int,
    variable: str,
    url: str,
    second: ScriptedServer,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    second.on("443", Answer(status))  # the target of CONNECT, without its host
    second.on("/token", Answer(status, b"<html>"))
    monkeypatch.setenv(variable, f"http://proxy-user:proxy-password@127.0.0.1:{second.port}")

    error = unreachable(lambda: exchange(client(token_endpoint=url)))

    assert error.code == "proxy_failed"
    assert f"HTTP {status}" in str(error)
    assert "NO_PROXY" in str(error)
    assert "proxy-password" not in str(error)


def test_a_proxy_whose_address_is_wrong_is_the_proxys_fault(
    client: Client, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = ("http://", "::::", "socks5://127.0.0.1:1", "ftp://127.0.0.1:1")
    for proxy in (f"http://127.0.0.1:{closed_port}", *wrong):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        assert unreachable(lambda: exchange(client())).code == "proxy_failed"


@pytest.mark.parametrize(
    "answer",
    [Answer(reset=True), Answer(cut=-1), Answer(silent=True), Answer(beginning=b"SSH-2.0", reset=True)],
)
def test_a_proxy_that_opens_no_tunnel_leaves_no_doubt(
    answer: Answer, second: ScriptedServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    second.on("443", answer)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{second.port}")

    server = client(timeout=0.5, token_endpoint="https://id.example/token")

    assert unreachable(lambda: server.refresh(HELD)).code == "proxy_failed"


def test_a_handshake_that_breaks_off_leaves_no_doubt(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = client(timeout=0.5, token_endpoint=f"https://127.0.0.1:{port}/token")
        # Nobody answers the first one. The second one is closed before the handshake has begun.
        assert unreachable(lambda: server.refresh(HELD)).code == "unreachable"
        listener.accept()[0].close()
        closing = threading.Thread(target=lambda: listener.accept()[0].close())
        closing.start()
        assert unreachable(lambda: server.refresh(HELD)).code == "unreachable"
        closing.join()


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://nowhere.invalid", "host_not_found"),
        ("https://no..where.invalid", "host_not_found"),
        (f"https://{'a' * 64}.invalid", "host_not_found"),
        ("http://127.0.0.1:1", "connection_refused"),
    ],
    ids=["unknown", "empty label", "long label", "refused"],
)
def test_every_entrance_names_the_same_cause(url: str, code: str, client: Client) -> None:
    names = (
        "token_endpoint",
        "revocation_endpoint",
        "userinfo_endpoint",
        "device_authorization_endpoint",
    )
    server = client(**dict.fromkeys(names, f"{url}/x"))
    host = url.partition("://")[2]
    calls: list[Callable[[], Any]] = [
        lambda: exchange(server),
        lambda: server.refresh(HELD),
        lambda: server.client_credentials(),
        lambda: server.revoke(HELD),
        lambda: server.userinfo(HELD),
        lambda: server.authorize_device(),
        lambda: server.probe(f"{url}/x"),
        lambda: fetch(url, guard=AddressGuard(frozenset({"127.0.0.1"}))),
    ]
    for call in calls:
        error = unreachable(call)
        assert error.code == code
        assert host in str(error)


def test_a_user_and_password_in_a_url_are_left_out() -> None:
    assert "password" not in explained("connection_refused", "http://user:password@127.0.0.1:1/token")


def test_an_error_names_the_endpoint_that_was_asked(scripted: ScriptedServer, client: Client) -> None:
    accounts = {"endpoint": f"{scripted.url}/accounts", "variable": "site"}
    variables = {"site": {"source": "accounts", "pattern": "[a-z]+"}}
    server = client(
        device_authorization_endpoint=f"{scripted.url}/device", accounts=accounts, variables=variables
    )
    for path in ("/token", "/userinfo", "/accounts", "/revoke", "/device"):
        scripted.on(path, Answer(503))
    asked: dict[str, Callable[[], Any]] = {
        "token_endpoint": lambda: server.refresh(HELD),
        "userinfo_endpoint": lambda: server.userinfo(HELD),
        "accounts.endpoint": lambda: server.accounts(HELD),
        "revocation_endpoint": lambda: server.revoke(HELD),
        "device_authorization_endpoint": lambda: server.authorize_device(),
    }
    for name, call in asked.items():
        with pytest.raises(CallError) as raised:
            call()
        assert raised.value.endpoint == name
    scripted.on("/token", Answer(body=FRESH))
    assert server.refresh(HELD).access_token == "access-1"


def test_every_cause_is_a_failure_that_passes(client: Client) -> None:
    assert CAUSES <= TRANSIENT
    for code in CAUSES:
        assert shown(code) == code
        error = error_for(client().provider, code, retry_after=5)
        assert isinstance(error, ProviderUnavailable)
        assert "127.0.0.1" in str(error)
