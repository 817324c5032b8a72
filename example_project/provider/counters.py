"""Counts the requests at the endpoints since the process started."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from .tokens import is_spent

GRANT_TYPES = {
    "authorization_code",
    "client_credentials",
    "password",
    "refresh_token",
    "urn:ietf:params:oauth:grant-type:device_code",
}
EVENTS = (
    "refreshes_refused",
    "rotations",
    "reuse_seen",
    "revocations",
    "api_calls",
    "api_401s",
)


class Counters:
    """The counts of one process. Any thread may use them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token_requests: Counter[str] = Counter()
        self._events: Counter[str] = Counter()

    def token_request(self, grant_type: str) -> None:
        with self._lock:
            self._token_requests[grant_type if grant_type in GRANT_TYPES else "other"] += 1

    def event(self, name: str) -> None:
        with self._lock:
            self._events[name] += 1

    def as_dict(self) -> dict[str, Any]:
        with self._lock:
            events = {name: self._events[name] for name in EVENTS}
            return {"token_requests": dict(self._token_requests), **events}

    def clear(self) -> None:
        with self._lock:
            self._token_requests.clear()
            self._events.clear()


counters = Counters()


class CountingMiddleware:
    """Counts token requests when they arrive, and other requests before the response is sent.

    So a client that has received a response finds its request counted.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path == reverse("oauth2_provider:token"):
            return self._token_request(request)
        response = self.get_response(request)
        if request.path == reverse("oauth2_provider:revoke-token"):
            _count_revocation(response)
        elif request.path.startswith("/api/"):
            _count_api_call(response)
        return response

    def _token_request(self, request: HttpRequest) -> HttpResponse:
        grant_type = request.POST.get("grant_type", "")
        counters.token_request(grant_type)
        response = self.get_response(request)
        if grant_type == "refresh_token":
            _count_refresh(request.POST.get("refresh_token", ""), response)
        return response


def _count_refresh(presented: str, response: HttpResponse) -> None:
    if response.status_code != 200:
        counters.event("refreshes_refused")
        if is_spent(presented):
            counters.event("reuse_seen")
    elif json.loads(response.content).get("refresh_token", presented) != presented:
        counters.event("rotations")


def _count_revocation(response: HttpResponse) -> None:
    if response.status_code == 200:
        counters.event("revocations")


def _count_api_call(response: HttpResponse) -> None:
    counters.event("api_calls")
    if response.status_code == 401:
        counters.event("api_401s")
