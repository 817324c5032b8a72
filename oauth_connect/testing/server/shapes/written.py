"""An HTTP answer, in the format that the provider writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from oauth_connect.protocol.provider import Provider
from oauth_connect.testing.server.shapes.documents import with_lists

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Written:
    """An HTTP answer. The body may have tokens, so the ``repr`` does not show it."""

    status: int
    content_type: str
    body: bytes = field(repr=False)


def written(document: Any, status: int = 200) -> Written:
    """Return a document as JSON."""
    return Written(status, JSON, json.dumps(document).encode())


def written_as_asked(provider: Provider | None, document: Any, accept: str, status: int = 200) -> Written:
    """Return a document as JSON, or as a form where the provider writes JSON only if it is asked for."""
    writes_form = provider is not None and prefers_forms(provider) and "json" not in accept.lower()
    if writes_form and isinstance(document, Mapping):
        flat = {key: value for key, value in document.items() if not isinstance(value, Mapping | list)}
        return Written(status, FORM, urlencode(flat).encode())
    return written(document, status)


def prefers_forms(provider: Provider) -> bool:
    """Return whether the entry asks for JSON, because the server writes forms otherwise (GitHub)."""
    headers = {name.lower(): value for name, value in provider.token_request.headers.items()}
    return "json" in headers.get("accept", "")


def with_success(provider: Provider | None, document: dict[str, Any]) -> Any:
    """Return a document with the field that marks a success, where the provider has one (Slack)."""
    if provider is not None and provider.token_response.success_field:
        document[provider.token_response.success_field] = True
    return with_lists(document)
