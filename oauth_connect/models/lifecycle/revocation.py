"""Revokes tokens at their provider after local use has ended: immediately, or in a later attempt."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import F, Q, QuerySet

from oauth_connect.conf import UnknownProvider, conf
from oauth_connect.engine.client_credentials import CLIENT_CREDENTIALS
from oauth_connect.engine.revoke import Revocation, revoke
from oauth_connect.engine.store import REVOKED
from oauth_connect.errors import CallError, InvalidProvider, KeyUnavailable
from oauth_connect.models.owner import MACHINE
from oauth_connect.models.pending_revocation import GrantKey, PendingRevocation
from oauth_connect.models.row import ConnectionRow, R, rows_of
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token

logger = logging.getLogger("oauth_connect")
RETRY_PAUSE = timedelta(minutes=5)
MAX_PAUSE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The result of one attempt.

    ``outcome``: ``revoked``, ``unsupported``, ``refused`` (for good), ``spared`` (another connection uses the
    same grant), or ``pending`` with a ``code`` that says why. ``retry_after``: seconds.
    """

    outcome: str
    code: str = ""
    retry_after: float | None = None

    @property
    def over(self) -> bool:
        """Whether no further attempt is needed."""
        return self.outcome != "pending"


def siblings(rows: QuerySet[R], grant: GrantKey, provider: Provider) -> QuerySet[R]:
    """Return the connections that a revocation of the grant's token would end too.

    The account decides which connections share the grant. While it is unknown, assume any of the owner's
    does.
    """
    rows = rows.exclude(status=REVOKED).filter(provider=grant.provider, client_id=grant.client_id)
    # A machine token belongs to no grant: it ends alone.
    rows = rows.exclude(grant=CLIENT_CREDENTIALS)
    effect = provider.revocation.effect
    alone = effect == "token" or grant.owner.startswith(MACHINE)
    if alone or provider.revocation.style == "none":
        return rows.none()
    same = Q(account_id=grant.account_id) if grant.account_id else Q(owner=grant.owner)
    if effect == "account" and grant.variables:
        same |= Q(variables=dict(grant.variables))
    return rows.filter(same)


def is_shared(model: type[ConnectionRow], grant: GrantKey, provider: Provider) -> bool:
    """Return whether revoking a token that is not stored could end a connection.

    Reads from the primary. A replica that lags may not show the connection yet.
    """
    return siblings(rows_of(model, router.db_for_write(model)), grant, provider).exists()


def can_revoke(slug: str, owner: str) -> bool:
    """Return whether the provider's settings name a way to revoke; True where they are unknown."""
    try:
        provider = conf.declared_provider(slug, owner)
    except ImproperlyConfigured:
        return True  # its settings may come back
    if provider.revocation.style == "none":
        return False
    return bool(provider.revocation_endpoint) or provider.needs_discovery


def revoke_now(
    is_spared: Callable[[GrantKey, Provider], bool],
    pending: PendingRevocation,
    token: Token,
    before_request: Callable[[], None] = lambda: None,
) -> Attempt:
    """Ask the provider to revoke a token, unless ``is_spared``: another connection would end with it.

    ``before_request`` is called right before the request. Raises nothing that settings or HTTP cause.
    """
    try:
        return _revoke(is_spared, pending, token, before_request)
    except UnknownProvider:
        return Attempt("pending", "provider_missing")
    except (ImproperlyConfigured, InvalidProvider):
        return Attempt("pending", "invalid_settings")
    except CallError as error:  # its endpoints cannot be discovered now
        return Attempt("pending", getattr(error, "code", ""), getattr(error, "retry_after", None))


def _revoke(
    is_spared: Callable[[GrantKey, Provider], bool],
    pending: PendingRevocation,
    token: Token,
    before_request: Callable[[], None],
) -> Attempt:
    grant = pending.grant_key()
    provider = conf.provider(grant.provider, grant.owner).resolve_with_client(grant.variables)
    if provider.client_id != grant.client_id:
        return Attempt("pending", "client_changed")  # only the client that obtained the token can revoke it
    if is_spared(grant, provider):
        details = {
            "action": "revocation_skipped",
            "provider": grant.provider,
            "connection": str(pending.connection_id),
        }
        logger.info("not revoked: another connection uses the same grant (%s)", grant.provider, extra=details)
        return Attempt("spared")
    before_request()
    with AuthorizationServer(provider, timeout=conf.http_timeout) as server:
        done: Revocation = revoke(server, token)
    return Attempt(done.outcome, done.code, done.retry_after)


def attempt(pending: PendingRevocation, model: type[ConnectionRow]) -> Attempt:
    """Try a pending revocation once, and record the result. ``model``: the model of connections."""
    alias = router.db_for_write(PendingRevocation, instance=pending)
    done = _attempt(pending, rows_of(model, alias))
    conclude(pending, done, alias)
    return done


def conclude(pending: PendingRevocation, done: Attempt, alias: str) -> None:
    """Record the result of an attempt: delete the row if it is over, else set the next attempt."""
    rows = PendingRevocation.objects.using(alias).filter(pk=pending.pk)
    if done.over:
        rows.delete()
        return
    wait = max(pause(pending.attempts), timedelta(seconds=done.retry_after or 0))
    rows.update(
        attempts=F("attempts") + 1, last_error=done.code[:64], next_attempt_at=datetime.now(UTC) + wait
    )


def claim(pending: PendingRevocation) -> bool:
    """Claim the next attempt. Return False where another process has claimed it."""
    alias = router.db_for_write(PendingRevocation, instance=pending)
    rows = PendingRevocation.objects.using(alias)
    seen = rows.filter(pk=pending.pk, attempts=pending.attempts, next_attempt_at=pending.next_attempt_at)
    return bool(seen.update(next_attempt_at=datetime.now(UTC) + RETRY_PAUSE))


def pause(attempts: int) -> timedelta:
    """Return the time until the next attempt: five minutes at first, doubled each time, at most a day."""
    longest: timedelta = min(RETRY_PAUSE * 2 ** min(attempts, 10), MAX_PAUSE)
    return longest * random.uniform(0.75, 1)  # noqa: S311


def _attempt(pending: PendingRevocation, rows: QuerySet[R]) -> Attempt:
    try:
        token = pending.open()
    except KeyUnavailable as error:
        return Attempt("pending", error.code)
    return revoke_now(lambda grant, provider: siblings(rows, grant, provider).exists(), pending, token)
