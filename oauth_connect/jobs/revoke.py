"""Revoking what a provider did not take when it was asked first, or what was deleted without asking it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from django.db import DatabaseError, router
from django.db.models import QuerySet

from oauth_connect.engine.revoke import CLIENT_REFUSED
from oauth_connect.errors import KeyUnavailable
from oauth_connect.models import PendingRevocation, revoking
from oauth_connect.protocol.codes import shown

logger = logging.getLogger("oauth_connect")

Outcome = Literal[
    "revoked",
    "spared",
    "unsupported",
    "refused",
    "skipped",
    "unavailable",
    "misconfigured",
    "failed",
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
FAILED = frozenset(OUTCOMES[5:])
PAGE = 100
IN_A_ROW = 3  # failures after which a run leaves a provider alone
WHY_PENDING: dict[str, Outcome] = {
    "provider_missing": "skipped",
    "client_changed": "skipped",
    "invalid_settings": "misconfigured",
    KeyUnavailable.code: "failed",
    **dict.fromkeys(CLIENT_REFUSED, "misconfigured"),
}


@dataclass(frozen=True, slots=True)
class Tried:
    """How it went for one token. ``code``: a stable word, never a provider's text."""

    provider: str
    outcome: Outcome
    code: str = ""


def due(until: datetime | None = None) -> QuerySet[PendingRevocation]:
    """Return the tokens whose revocation is to be tried (again) by now."""
    rows = PendingRevocation.objects.using(router.db_for_write(PendingRevocation))
    return rows.filter(next_attempt_at__lte=until or datetime.now(UTC)).order_by("next_attempt_at", "pk")


def revoke_due() -> Iterator[Tried]:
    """Try each token that is due, once, the longest due first; may be stopped between two.

    Any number of these may run at once. A provider that does not answer several times in a row is left alone
    for the rest of the run.
    """
    until = datetime.now(UTC)  # what fails is due again after that
    in_a_row: Counter[str] = Counter()
    while page := list(due(until).exclude(provider__in=_given_up(in_a_row))[:PAGE]):
        for pending in page:
            if pending.provider in _given_up(in_a_row) or not revoking.claim(pending):
                continue
            tried = _try(pending)
            in_a_row[tried.provider] = in_a_row[tried.provider] + 1 if tried.outcome == "unavailable" else 0
            yield tried


def _given_up(in_a_row: Counter[str]) -> list[str]:
    return [slug for slug, failures in in_a_row.items() if failures >= IN_A_ROW]


def _try(pending: PendingRevocation) -> Tried:
    try:
        done = revoking.attempt(pending)
    except DatabaseError:
        raise
    except Exception:
        details = {
            "action": "revocation_crashed",
            "provider": pending.provider,
            "connection": str(pending.connection_id),
        }
        logger.exception("a fault while a token was being revoked", extra=details)
        return Tried(pending.provider, "failed", "crashed")
    code = shown(done.code) if done.code else ""
    outcome: Any = done.outcome if done.over else WHY_PENDING.get(done.code, "unavailable")
    return Tried(pending.provider, outcome, code)
