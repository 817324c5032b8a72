from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.provider import Provider
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
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + signed.public_bytes(pem))
    return path


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
