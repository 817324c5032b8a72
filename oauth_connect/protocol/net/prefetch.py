"""Requests that a browser sends in advance, for a page that its user may never open."""

from __future__ import annotations

from typing import Protocol

# "Sec-Purpose: prefetch;prerender" and "Purpose: prefetch" (Chromium), "X-Moz: prefetch" (Firefox),
# "X-Purpose: preview" and "Purpose: preview" (Safari).
HEADERS = ("Sec-Purpose", "Purpose", "X-Moz", "X-Purpose")
WORDS = ("prefetch", "prerender", "preview")


class Headers(Protocol):
    """The headers of a request. Their names do not depend on upper and lower case."""

    def get(self, name: str, default: str, /) -> str: ...


def is_prefetch(headers: Headers) -> bool:
    """Return whether a browser fetches a page in advance."""
    values = " ".join(headers.get(name, "") for name in HEADERS).lower()
    return any(word in values for word in WORDS)
