"""Tokens whose local use has ended are revoked at their provider: at once, or later and again."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import F, Q, QuerySet

from oauth_connect.conf import UnknownProvider, conf
from oauth_connect.engine.client_credentials import CLIENT_CREDENTIALS
from oauth_connect.engine.revoke import Revocation, revoke
from oauth_connect.engine.store import REVOKED
from oauth_connect.errors import CallError, InvalidProvider, KeyUnavailable
from oauth_connect.models.owner import MACHINE
from oauth_connect.models.pending_revocation import PendingRevocation, TokenOf
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token

logger = logging.getLogger("oauth_connect")
RETRY = timedelta(minutes=5)
LONGEST_PAUSE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one try went. ``outcome``: ``revoked``, ``unsupported``, ``refused`` (for good), ``spared``
    (another connection lives on the same grant), or ``pending`` with a ``code`` that says why."""

    outcome: str
    code: str = ""
    retry_after: float | None = None

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.outcome != "pending"


def siblings(rows: QuerySet[Any], what: TokenOf, provider: Provider) -> QuerySet[Any]:
    """Return those of the connections that a revocation of this token would end too.

    As long as the account is not known, any of the owner's might be one.
    """
    rows = rows.exclude(status=REVOKED).filter(provider=what.provider, client_id=what.client_id)
    # A machine token is nobody's grant: it ends alone, and with nobody else's.
    rows = rows.exclude(grant=CLIENT_CREDENTIALS)
    effect = provider.revocation.effect
    alone = effect == "token" or what.owner.startswith(MACHINE)
    if alone or provider.revocation.style == "none":
        return rows.none()
    same = Q(account_id=what.account_id) if what.account_id else Q(owner=what.owner)
    if effect == "account" and what.variables:
        same |= Q(variables=dict(what.variables))
    return rows.filter(same)


def is_shared(what: TokenOf, provider: Provider) -> bool:
    """Tell whether a revocation of a token that is not kept could end a connection.

    Asked where writes go: a replica may not have heard of the connection yet.
    """
    model = apps.get_model("oauth_connect", "Connection")
    rows: QuerySet[Any] = QuerySet(model, using=router.db_for_write(model))
    return siblings(rows, what, provider).exists()


def can_revoke(slug: str, owner: str) -> bool:
    """Tell, as far as the settings say, whether a provider has a way to revoke; what is not known, may."""
    try:
        provider = conf.declared_provider(slug, owner)
    except ImproperlyConfigured:
        return True  # its settings may come back
    if provider.revocation.style == "none":
        return False
    return bool(provider.revocation_endpoint) or provider.needs_discovery


def revoke_now(
    is_spared: Callable[[TokenOf, Provider], bool],
    pending: PendingRevocation,
    token: Token,
    about_to_ask: Callable[[], None] = lambda: None,
) -> Attempt:
    """Ask the provider to revoke a token, unless ``is_spared``: another connection would end with it.

    ``about_to_ask`` is called before the request is sent.
    """
    try:
        return _revoke(is_spared, pending, token, about_to_ask)
    except UnknownProvider:
        return Attempt("pending", "provider_missing")
    except (ImproperlyConfigured, InvalidProvider):
        return Attempt("pending", "invalid_settings")
    except CallError as error:  # its endpoints cannot be discovered now
        return Attempt("pending", getattr(error, "code", ""), getattr(error, "retry_after", None))


def _revoke(
    is_spared: Callable[[TokenOf, Provider], bool],
    pending: PendingRevocation,
    token: Token,
    about_to_ask: Callable[[], None],
) -> Attempt:
    what = pending.what()
    provider = conf.provider(what.provider, what.owner).resolve_with_client(what.variables)
    if provider.client_id != what.client_id:
        return Attempt("pending", "client_changed")  # the app that obtained it is no longer in the settings
    if is_spared(what, provider):
        details = {
            "action": "revocation_skipped",
            "provider": what.provider,
            "connection": str(pending.connection_id),
        }
        logger.info(
            "not revoked: another connection lives on the same grant (%s)", what.provider, extra=details
        )
        return Attempt("spared")
    about_to_ask()
    with AuthorizationServer(provider, timeout=conf.http_timeout) as server:
        done: Revocation = revoke(server, token)
    return Attempt(done.outcome, done.code, done.retry_after)


def attempt(pending: PendingRevocation) -> Attempt:
    """Try one kept revocation; what is over is deleted, anything else waits for its next turn."""
    alias = router.db_for_write(PendingRevocation, instance=pending)
    done = _attempt(pending, alias)
    conclude(pending, done, alias)
    return done


def conclude(pending: PendingRevocation, done: Attempt, alias: str) -> None:
    """Write down how a try went: what is over is deleted."""
    rows = PendingRevocation.objects.using(alias).filter(pk=pending.pk)
    if done.over:
        rows.delete()
        return
    wait = max(pause(pending.attempts), timedelta(seconds=done.retry_after or 0))
    rows.update(
        attempts=F("attempts") + 1, last_error=done.code[:64], next_attempt_at=datetime.now(UTC) + wait
    )


def claim(pending: PendingRevocation) -> bool:
    """Take the turn of a kept revocation: of several processes one gets it, and the others leave it alone."""
    alias = router.db_for_write(PendingRevocation, instance=pending)
    rows = PendingRevocation.objects.using(alias)
    seen = rows.filter(pk=pending.pk, attempts=pending.attempts, next_attempt_at=pending.next_attempt_at)
    return bool(seen.update(next_attempt_at=datetime.now(UTC) + RETRY))


def pause(attempts: int) -> timedelta:
    """Return how long to leave it alone after so many tries: five minutes at first, a day at most."""
    longest: timedelta = min(RETRY * 2 ** min(attempts, 10), LONGEST_PAUSE)
    return longest * random.uniform(0.75, 1)  # noqa: S311


def _attempt(pending: PendingRevocation, alias: str) -> Attempt:
    rows: QuerySet[Any] = QuerySet(apps.get_model("oauth_connect", "Connection"), using=alias)
    if pending.account_id is None:  # kept by an earlier release; its row may still tell
        known = rows.filter(pk=pending.connection_id).values_list("account_id", flat=True)[:1]
        pending.account_id = next(iter(known), None)
    try:
        token = pending.open()
    except KeyUnavailable as error:
        return Attempt("pending", error.code)
    return revoke_now(lambda what, provider: siblings(rows, what, provider).exists(), pending, token)
