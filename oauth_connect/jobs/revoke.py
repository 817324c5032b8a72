"""Revokes tokens that a first request did not revoke, and tokens of rows that were deleted."""

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
from oauth_connect.models import Connection, PendingRevocation
from oauth_connect.models.lifecycle import revocation
from oauth_connect.protocol.grants.error_codes import shown

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
FAILURES_BEFORE_SKIP = 3  # in a row; after them the run skips the provider
WHY_PENDING: dict[str, Outcome] = {
    "provider_missing": "skipped",
    "client_changed": "skipped",
    "invalid_settings": "misconfigured",
    KeyUnavailable.code: "failed",
    **dict.fromkeys(CLIENT_REFUSED, "misconfigured"),
}


@dataclass(frozen=True, slots=True)
class RevocationResult:
    """The result for one token. ``code``: a stable word, never a provider's text."""

    provider: str
    outcome: Outcome
    code: str = ""


def due(until: datetime | None = None) -> QuerySet[PendingRevocation]:
    """Return the tokens whose next attempt is due."""
    rows = PendingRevocation.objects.using(router.db_for_write(PendingRevocation))
    return rows.filter(next_attempt_at__lte=until or datetime.now(UTC)).order_by("next_attempt_at", "pk")


def revoke_due() -> Iterator[RevocationResult]:
    """Try each due token once, the longest due first. May be stopped between two tokens.

    Any number of runs may work in parallel. A provider that fails several times in a row is skipped for the
    rest of the run.
    """
    until = datetime.now(UTC)  # a token that fails is due again after this
    in_a_row: Counter[str] = Counter()
    while page := list(due(until).exclude(provider__in=_skipped(in_a_row))[:PAGE]):
        for pending in page:
            if pending.provider in _skipped(in_a_row) or not revocation.claim(pending):
                continue
            result = _try(pending)
            failed = result.outcome == "unavailable"
            in_a_row[result.provider] = in_a_row[result.provider] + 1 if failed else 0
            yield result


def _skipped(in_a_row: Counter[str]) -> list[str]:
    return [slug for slug, failures in in_a_row.items() if failures >= FAILURES_BEFORE_SKIP]


def _try(pending: PendingRevocation) -> RevocationResult:
    try:
        done = revocation.attempt(pending, Connection)
    except DatabaseError:
        raise
    except Exception:
        details = {
            "action": "revocation_crashed",
            "provider": pending.provider,
            "connection": str(pending.connection_id),
        }
        logger.exception("an unexpected error while a token was being revoked", extra=details)
        return RevocationResult(pending.provider, "failed", "crashed")
    code = shown(done.code) if done.code else ""
    pends = done.outcome == "pending"
    outcome: Any = WHY_PENDING.get(done.code, "unavailable") if pends else done.outcome
    return RevocationResult(pending.provider, outcome, code)
