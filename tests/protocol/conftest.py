from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.net import addresses
from oauth_connect.protocol.provider import Provider
from tests.protocol.certificates import self_signed
from tests.servers.scripted import ScriptedServer

PROXY_VARIABLES = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the proxies and credentials of the machine."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.delenv("NETRC", raising=False)


@pytest.fixture
def provider_at(scripted_entry: dict[str, Any]) -> Callable[..., Provider]:
    """Make the provider at the scripted server, with changes."""
    return lambda **changes: Provider.from_mapping("scripted", {**scripted_entry, **changes})


@pytest.fixture
def server_of(provider_at: Callable[..., Provider]) -> Iterator[Callable[..., AuthorizationServer]]:
    """Make this site's client at the scripted server. ``timeout`` is in seconds."""
    opened: list[AuthorizationServer] = []

    def make(timeout: float = 50, **changes: Any) -> AuthorizationServer:
        opened.append(AuthorizationServer(provider_at(**changes), timeout=timeout))
        return opened[-1]

    yield make
    for server in opened:
        server.__exit__()


@pytest.fixture
def client(
    server_of: Callable[..., AuthorizationServer], scripted: ScriptedServer
) -> Callable[..., AuthorizationServer]:
    """Make the same as ``server_of``, with a userinfo endpoint."""

    def make(**changes: Any) -> AuthorizationServer:
        return server_of(**{"userinfo_endpoint": f"{scripted.url}/userinfo", **changes})

    return make


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store credentials for this machine in a netrc file, as many developers do."""
    path = tmp_path / "netrc"
    path.write_text("default login netrc-user password netrc-password\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(path))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key."""
    return self_signed(x509.IPAddress(ipaddress.ip_address("127.0.0.1")), tmp_path)


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[ScriptedServer]:
    """The scripted server over https, with the self-signed certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = ScriptedServer(context)
    yield server
    server.close()


@pytest.fixture
def second() -> Iterator[ScriptedServer]:
    """Another server, on another port."""
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[list[str]]]]:
    """Names with the results of resolving them, one after the other. The last result is repeated."""
    names: dict[str, list[list[str]]] = {}
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if host not in names:
            return real(host, port, *args, **kwargs)
        answers = names[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [entry for address in found for entry in real(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return names


@pytest.fixture
def only_second_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count 127.0.0.1, the address of the server, as public, and 127.0.0.2 as private."""
    monkeypatch.setattr(addresses, "is_public", lambda address: address != "127.0.0.2")
