"""The requests that the fake provider has received, for the assertions of a test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as the provider received it. Its ``repr`` names the parameters, and shows no value.

    ``headers``: the names are in lower case. ``body``: the bytes.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def received(cls, method: str, target: str, headers: Mapping[str, str], body: bytes) -> ReceivedRequest:
        """Return the request with this target: the path and query of the request line (RFC 9112)."""
        split = urlsplit(target)
        lower = {name.lower(): value for name, value in headers.items()}
        return cls(method, split.path, dict(parse_qsl(split.query, keep_blank_values=True)), lower, body)

    @cached_property
    def form(self) -> dict[str, str]:
        """The parameters of a form body. A body of another type has none."""
        if "application/x-www-form-urlencoded" not in self.headers.get("content-type", ""):
            return {}
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    @cached_property
    def json(self) -> Any:
        """The document of a JSON body, or None if the body is not JSON."""
        try:
            return json.loads(self.body) if self.body else None
        except (ValueError, RecursionError):
            return None

    def __repr__(self) -> str:
        names = [*self.query, *self.form, *(self.json if isinstance(self.json, dict) else ())]
        return f"<ReceivedRequest {self.method} {self.path} ({', '.join(names)})>"
