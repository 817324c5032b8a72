"""Outcomes of refreshes: stable words that quote no provider."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from django.core.exceptions import ImproperlyConfigured

from oauth_connect.conf import LoaderFailed, UnknownProvider
from oauth_connect.engine.store import Event
from oauth_connect.errors import (
    CallError,
    ConnectionHidden,
    ConnectionLocked,
    InvalidProvider,
    ProviderMisconfigured,
    ProviderUnavailable,
    ReauthorizationRequired,
)
from oauth_connect.protocol.grants.error_codes import shown

logger = logging.getLogger("oauth_connect")

OutcomeWord = Literal[
    "refreshed",
    "not_needed",
    "skipped",
    "unavailable",
    "misconfigured",
    "reauthorization_required",
    "failed",
]
OUTCOMES: tuple[OutcomeWord, ...] = get_args(OutcomeWord)
FAILED = frozenset(OUTCOMES[3:])
NO_LONGER_NEEDED = frozenset({"disconnected", "owner_inactive"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a refresh went. ``code`` is the error's stable word, never a provider's text."""

    outcome: OutcomeWord
    code: str = ""


@dataclass(frozen=True, slots=True)
class Result(Outcome):
    """How the refresh of one connection went."""

    provider: str = ""
    connection: uuid.UUID | None = None


CRASHED = Outcome("failed", "crashed")
BUSY = Outcome("not_needed", "busy")
LOCKED = Outcome("failed", ConnectionLocked.code)
HIDDEN = Outcome("failed", ConnectionHidden.code)
# Another process works on the row and will move it, or no statement would find it.
LEAVE_ROW_ALONE = frozenset({BUSY, LOCKED, HIDDEN})


def outcome_of(error: BaseException | None, events: Iterable[Event] = ()) -> Outcome:
    """Return the outcome of a refresh from what it raised, or from its events where it raised nothing."""
    if error is None:
        saved = any(event.action == "refreshed" for event in events)
        return Outcome("refreshed" if saved else "not_needed")
    for kinds, outcome in _OUTCOMES_OF_ERRORS:
        if isinstance(error, kinds):
            return outcome(error)
    return CRASHED


def result_of(connection: Any, error: BaseException | None, events: Iterable[Event]) -> Result:
    """Return the result for a connection, and log the error of a crash."""
    outcome = outcome_of(error, events)
    if outcome == CRASHED:
        logger.error("a refresh crashed", exc_info=error, extra={"action": "refresh_crashed"})
    return Result(outcome.outcome, outcome.code, connection.provider, connection.pk)


def _misconfigured(error: Any) -> Outcome:
    return Outcome("skipped" if error.code == "provider_disabled" else "misconfigured", shown(error.code))


def _unavailable(error: Any) -> Outcome:
    return BUSY if error.code == "busy" else Outcome("unavailable", shown(error.code))


def _reauthorization_required(error: Any) -> Outcome:
    needed = error.reason not in NO_LONGER_NEEDED
    return Outcome("reauthorization_required" if needed else "not_needed", error.reason)


_OUTCOMES_OF_ERRORS: tuple[tuple[Any, Callable[[Any], Outcome]], ...] = (
    (LoaderFailed, lambda error: CRASHED),  # logged with its traceback
    (UnknownProvider, lambda error: Outcome("skipped", "provider_missing")),
    ((ImproperlyConfigured, InvalidProvider), lambda error: Outcome("misconfigured", "invalid_settings")),
    (ProviderMisconfigured, _misconfigured),
    (ProviderUnavailable, _unavailable),
    (ReauthorizationRequired, _reauthorization_required),
    (CallError, lambda error: Outcome("failed", shown(getattr(error, "code", "")))),
)
