"""A provider as a site might write it, to be varied."""

from __future__ import annotations

from typing import Any

from oauth_connect.protocol.provider import Provider

ACME = {
    "client_id": "client",
    "client_secret": "secret",
    "authorization_endpoint": "https://id.example/authorize",
    "token_endpoint": "https://id.example/token",
    "revocation_endpoint": "https://id.example/revoke",
    "userinfo_endpoint": "https://id.example/userinfo",
    "api_base_url": "https://api.example/v1/",
}


def acme(**changes: Any) -> Provider:
    return Provider.from_mapping("acme", {**ACME, **changes})
