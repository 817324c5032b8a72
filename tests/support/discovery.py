"""What tests of discovered providers share."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import caches

from oauth_connect.conf import conf
from oauth_connect.issuers import Issuers

WELL_KNOWN = "/.well-known/oauth-authorization-server"


def document_of(url: str) -> dict[str, Any]:
    """Return the metadata of a server at this URL (RFC 8414 section 2)."""
    return {
        "issuer": url,
        "authorization_endpoint": f"{url}/authorize",
        "token_endpoint": f"{url}/token",
        "revocation_endpoint": f"{url}/revoke",
    }


def forget_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as another process: this one knows no metadata. The shared cache still may."""
    monkeypatch.setattr(conf, "_issuers", Issuers())


def forget_discovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as the first process, with an empty cache."""
    forget_metadata(monkeypatch)
    caches["default"].clear()
