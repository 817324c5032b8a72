"""Everything that reporters make of an error: Sentry with its defaults, Django's page and its error mail."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import sentry_sdk
from django.core import mail
from django.test import RequestFactory
from django.utils.log import AdminEmailHandler
from django.views.debug import DEBUG_ENGINE, technical_500_response
from sentry_sdk.transport import Transport

from tests.reporters.tracing import untraced

sent: list[str] = []


class Kept(Transport):
    """Keeps the events as they would be sent."""

    def capture_envelope(self, envelope: Any) -> None:
        event = envelope.get_event()
        if event is not None:
            for crumb in event.get("breadcrumbs", {}).get("values", []):
                # Sentry notes the query of each request of the process, here the parameters of the caller.
                crumb.get("data", {}).pop("http.query", None)
            sent.append(json.dumps(event))


def begin() -> None:
    # Otherwise Django compiles the template of its page for each error.
    DEBUG_ENGINE.from_string = functools.cache(DEBUG_ENGINE.from_string)
    sentry_sdk.init(dsn="http://public@127.0.0.1:9/1", transport=Kept)


@untraced()
def of(error: BaseException, request: Any = None) -> dict[str, str]:
    """Return the reports of an error that reached the site."""
    sentry_sdk.capture_exception(error)
    request = request or RequestFactory().get("/")
    exc_info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("django.request", logging.ERROR, __file__, 1, "failed", (), exc_info)
    record.request = request
    mail.outbox = []
    AdminEmailHandler(include_html=True).emit(record)
    (message,) = mail.outbox
    return {
        "page": technical_500_response(request, *exc_info).content.decode(),
        "mail": f"{message.subject} {message.body} {message.alternatives}",
    }


def spellings(canary: str) -> Iterator[str]:
    """Yield a canary, and what it is inside of base64, at each of three offsets."""
    yield canary
    for offset in range(3):
        encoded = base64.b64encode(b"x" * offset + canary.encode()).decode()
        yield encoded[math.ceil(offset * 8 / 6) : (offset + len(canary)) * 8 // 6]


def leaks(report: str, canary: str) -> list[str]:
    """Return what stands around each canary in a report."""
    found = []
    for text in (report, unquote(report)):
        for spelling in spellings(canary):
            at = text.find(spelling)
            if at >= 0:
                found.append(text[max(at - 150, 0) : at + 60])
    return found


def in_locals(frame: Any, canary: str) -> bool:
    """Return whether a serialiser finds the canary in the locals of a frame."""
    return any(_contains(value, tuple(spellings(canary)), 5) for value in list(frame.f_locals.values()))


def _contains(value: Any, words: tuple[str, ...], depth: int) -> bool:
    """Walk as Sentry does, but call no ``repr``: it may wait for a lock that the traced thread holds."""
    if isinstance(value, bytes | bytearray):
        value = value.decode("latin-1")
    if isinstance(value, str):
        return any(word in value for word in words)
    if isinstance(value, Mapping):
        with contextlib.suppress(Exception):  # its constructor still runs
            value = [*value.keys(), *value.values()]
    if depth and isinstance(value, list | tuple | set | frozenset):
        return any(_contains(item, words, depth - 1) for item in list(value))
    return False
