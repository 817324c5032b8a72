"""An HTTP response of the fake provider, before it is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self
from urllib.parse import urlencode, urlsplit, urlunsplit

from oauth_connect.testing.server.shapes import Written

JSON = "application/json"
HTML = "text/html; charset=utf-8"
# No script, and no resource of another host. The browser must not guess types or keep pages.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, kw_only=True, repr=False)
class Response:
    """``delivery``: ``cut`` ends the connection inside the body, and ``held`` sends nothing.

    ``reason``: the phrase after the status; "" is the usual one. Clients show it in their errors.
    """

    status: int = 200
    reason: str = ""
    content_type: str = JSON
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delivery: Literal["whole", "cut", "held"] = "whole"

    @classmethod
    def of(cls, written: Written, headers: Mapping[str, str] | None = None) -> Self:
        """Return the response with this answer, which no cache may keep (RFC 6749 section 5.1)."""
        kept = {"Cache-Control": "no-store", **(headers or {})}
        return cls(status=written.status, content_type=written.content_type, body=written.body, headers=kept)

    def cut(self) -> Self:
        return replace(self, delivery="cut")

    def with_header(self, name: str, value: str) -> Self:
        return replace(self, headers={**self.headers, name: value})


HELD = Response(delivery="held")


def document(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status=status, body=json.dumps(content).encode(), headers=headers or {})


def error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error of the fake provider itself, which says what to do."""
    return document({"error": code, "message": message}, status, headers)


def page(html: str, status: int = 200) -> Response:
    return Response(status=status, content_type=HTML, body=html.encode(), headers=PAGE_HEADERS)


def redirect(url: str) -> Response:
    """Return a redirect that is followed by GET, also after a POST."""
    return Response(status=303, content_type=HTML, headers={"Location": url, "Cache-Control": "no-store"})


def with_query(url: str, parameters: Mapping[str, str]) -> str:
    """Return a URL with these parameters after those that it has (RFC 6749 section 3.1.2)."""
    split = urlsplit(url)
    query = "&".join(part for part in (split.query, urlencode(parameters)) if part)
    return urlunsplit(split._replace(query=query))
