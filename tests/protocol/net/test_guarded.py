"""The guarded session connects only to an address that it has checked."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509

from oauth_connect.protocol.net.addresses import AddressGuard, AddressRefused
from oauth_connect.protocol.net.guarded import guarded_session
from oauth_connect.protocol.net.transport import deadline
from tests.protocol.certificates import self_signed
from tests.servers.scripted import Answer, ScriptedServer


@pytest.mark.compliance("D51")
@pytest.mark.usefixtures("only_second_is_private")
def test_the_address_that_was_checked_is_the_one_connected_to(
    scripted: ScriptedServer, resolver: dict[str, list[list[str]]]
) -> None:
    resolver["id.example"] = [["127.0.0.1"], ["127.0.0.2"]]
    scripted.on("/x", Answer(body={}))
    with guarded_session(AddressGuard()) as session, deadline(5):
        response = session.get(f"http://id.example:{scripted.port}/x", timeout=60)
    assert response.status_code == 200
    assert scripted.asked("/x")[0].headers["Host"] == f"id.example:{scripted.port}"
    assert len(resolver["id.example"]) == 1


@pytest.mark.usefixtures("only_second_is_private")
def test_an_unreachable_address_does_not_hide_a_reachable_one(
    scripted: ScriptedServer, resolver: dict[str, list[list[str]]]
) -> None:
    resolver["id.example"] = [["127.0.0.3", "127.0.0.1"]]
    scripted.on("/x", Answer(body={}))
    with guarded_session(AddressGuard()) as session, deadline(5):
        assert session.get(f"http://id.example:{scripted.port}/x", timeout=60).status_code == 200


@pytest.mark.compliance("A23")
@pytest.mark.usefixtures("only_second_is_private")
def test_tls_is_about_the_name_and_not_the_address(
    tmp_path: Path, resolver: dict[str, list[list[str]]]
) -> None:
    path = self_signed(x509.DNSName("id.example"), tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    asked_for: list[str | None] = []
    context.sni_callback = lambda sock, name, context: asked_for.append(name)
    server = ScriptedServer(context)
    resolver["id.example"] = resolver["evil.example"] = [["127.0.0.1"]]
    server.on("/x", Answer(body={}))
    try:
        with guarded_session(AddressGuard()) as session, deadline(5):
            options: dict[str, Any] = {"timeout": 5, "verify": str(path)}
            assert session.get(f"https://id.example:{server.port}/x", **options).status_code == 200
            with pytest.raises(requests.exceptions.SSLError):
                session.get(f"https://evil.example:{server.port}/x", **options)
    finally:
        server.close()
    assert asked_for == ["id.example", "evil.example"]
    assert len(server.requests) == 1


@pytest.mark.compliance("D39")
def test_behind_a_proxy_the_proxy_resolves(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", scripted.url)
    scripted.on("/x", Answer(body={}))
    with guarded_session(AddressGuard()) as session, deadline(5):
        assert session.get("http://id.example/x", timeout=60).status_code == 200
        with pytest.raises(AddressRefused):
            session.get("http://169.254.169.254/x", timeout=60)
    assert len(scripted.requests) == 1
