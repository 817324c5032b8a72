"""How a refresh of a connection went, in words that are stable and hold no provider's text."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from django.core.exceptions import ImproperlyConfigured

from oauth_connect.conf import UnknownProvider
from oauth_connect.errors import (
    CallError,
    ConnectionLocked,
    InvalidProvider,
    ProviderMisconfigured,
    ProviderUnavailable,
    ReauthorizationRequired,
)
from oauth_connect.protocol.codes import shown

Outcome = Literal[
    "refreshed",
    "not_needed",
    "skipped",
    "unavailable",
    "misconfigured",
    "reauthorization_required",
    "failed",
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
FAILED = frozenset(OUTCOMES[3:])
NOBODY_NEEDS_IT = frozenset({"disconnected", "owner_inactive"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it went. ``code``: the error's stable word, never a provider's text."""

    outcome: Outcome
    code: str = ""


@dataclass(frozen=True, slots=True)
class Result(Verdict):
    """How it went for one connection."""

    provider: str = ""
    connection: uuid.UUID | None = None


CRASHED = Verdict("failed", "crashed")
BUSY = Verdict("not_needed", "busy")
LOCKED = Verdict("failed", ConnectionLocked.code)
LEFT_AS_THEY_ARE = frozenset({BUSY, LOCKED})  # somebody else is at the row, and will move it


def judged(error: BaseException) -> Verdict:
    """Tell an error for what it is."""
    for kinds, judge in _JUDGES:
        if isinstance(error, kinds):
            return judge(error)
    return CRASHED


def _misconfigured(error: Any) -> Verdict:
    return Verdict("skipped" if error.code == "provider_disabled" else "misconfigured", shown(error.code))


def _unavailable(error: Any) -> Verdict:
    return BUSY if error.code == "busy" else Verdict("unavailable", shown(error.code))


def _ended(error: Any) -> Verdict:
    outcome: Outcome = "not_needed" if error.reason in NOBODY_NEEDS_IT else "reauthorization_required"
    return Verdict(outcome, error.reason)


_JUDGES: tuple[tuple[Any, Callable[[Any], Verdict]], ...] = (
    (UnknownProvider, lambda error: Verdict("skipped", "provider_missing")),
    ((ImproperlyConfigured, InvalidProvider), lambda error: Verdict("misconfigured", "invalid_settings")),
    (ProviderMisconfigured, _misconfigured),
    (ProviderUnavailable, _unavailable),
    (ReauthorizationRequired, _ended),
    (CallError, lambda error: Verdict("failed", shown(getattr(error, "code", "")))),
)
