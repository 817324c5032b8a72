"""The entry of a provider that is described by hand, and a key."""

from __future__ import annotations

import base64

ACME = {
    "client_id": "client",
    "authorization_endpoint": "https://id.example/authorize",
    "token_endpoint": "https://id.example/token",
    "api_base_url": "https://api.example/",
}
KEY = base64.urlsafe_b64encode(b"\xff" * 32).decode()
