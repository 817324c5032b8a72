"""The answers of the fake provider's API, as a test has written them."""

from __future__ import annotations

import json as json_module
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from oauth_connect.testing.server.messages import check_body, check_headers, check_status
from oauth_connect.testing.server.responses import JSON, Response

PREFIX = "/api"


class ApiAnswers:
    """For each method and path a queue of answers, whose last one stays."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[tuple[str, str], deque[Response]] = {}

    def add(
        self,
        method: str,
        path: str,
        *,
        json: Any,
        body: bytes | str | None,
        status: int,
        headers: Mapping[str, str],
    ) -> None:
        """Queue an answer. Raises ValueError for what is no answer, and for a path that is a URL."""
        if json is not None and body is not None:
            raise ValueError("Give json or body, not both.")
        if "://" in path or "?" in path:
            raise ValueError(f"path: {path!r} must be a path below the API's base URL, such as '/user'.")
        if not method.isalpha():
            raise ValueError(f"method: {method!r} is not a method such as 'GET'. The path comes after it.")
        check_status(status)
        if body is not None:
            check_body(body)
        check_headers(headers)
        response = _response(json, body, status, headers)
        with self._lock:
            self._queues.setdefault((method.upper(), _normal(path)), deque()).append(response)

    def take(self, method: str, path: str) -> Response | None:
        """Return the next answer for a path below the API's base URL. HEAD may use the answer of GET."""
        with self._lock:
            keys = [(method, _normal(path)), *([("GET", _normal(path))] if method == "HEAD" else ())]
            queue = next((self._queues[key] for key in keys if key in self._queues), None)
            if queue is None:
                return None
            return queue.popleft() if len(queue) > 1 else queue[0]

    @property
    def known(self) -> list[str]:
        with self._lock:
            return sorted(f"{method} {path}" for method, path in self._queues)


def _normal(path: str) -> str:
    return "/" + path.lstrip("/")


def _response(json: Any, body: bytes | str | None, status: int, headers: Mapping[str, str]) -> Response:
    payload = body if isinstance(body, bytes) else (body or "").encode()
    kind = JSON
    if json is not None:
        payload = json_module.dumps(json).encode()
    elif payload:
        kind = "text/plain; charset=utf-8"
    own = {name: value for name, value in headers.items() if name.lower() != "content-type"}
    kinds = [value for name, value in headers.items() if name.lower() == "content-type"]
    return Response(status=status, content_type=(kinds or [kind])[0], body=payload, headers=own)
