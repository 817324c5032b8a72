"""Revokes tokens at their provider after local use has ended, and keeps those that must not be revoked yet.

To revoke a token may end other connections to the same account. Such a token is kept aside, sealed, until a
connection of the account ends.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

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
MAX_KEPT = 20  # tokens of one account
MAX_TRIED = 5  # kept tokens that a disconnect revokes itself; oauth_prune revokes the others


Outlook = Literal["revoked", "kept", "unsupported", "unreadable"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """The result of one attempt.

    ``outcome``: ``revoked``, ``unsupported``, ``refused`` (for good), ``spared`` (a connection would end with
    it: the token is kept), or ``pending`` with a ``code`` that says why. ``retry_after``: seconds.
    """

    outcome: str
    code: str = ""
    retry_after: float | None = None

    @property
    def over(self) -> bool:
        """Whether no further attempt is needed."""
        return self.outcome not in ("pending", "spared")


def siblings(rows: QuerySet[R], grant: GrantKey, provider: Provider) -> QuerySet[R]:
    """Return the connections that a revocation of the grant's token would end too.

    The account decides which connections share the grant. While it is unknown, assume any of the owner's
    does, and any at all where a refresh returned it for a connection of another account. An account that is
    only the browser's word may be another user's, so it counts among the owner's connections alone.
    """
    rows = _of_client(rows, grant)
    # A machine token belongs to no grant: it ends alone.
    rows = rows.exclude(grant=CLIENT_CREDENTIALS)
    effect = provider.revocation.effect
    alone = effect == "token" or grant.owner.startswith(MACHINE)
    if alone or provider.revocation.style == "none":
        return rows.none()
    if grant.account_changed:
        return rows
    owners = Q(owner=grant.owner)
    same = Q(account_id=grant.account_id) if grant.account_id else owners
    if not provider.proves(provider.identity_source):
        same &= owners
    if effect == "account" and grant.variables:
        shared = Q(variables=dict(grant.variables))
        # Of the entry: a resolved provider has only the variables that still miss a value.
        declared = conf.declared_provider(grant.provider, grant.owner)
        sources = {variable.source for variable in declared.variables.values()}
        same |= shared if all(map(provider.proves, sources)) else shared & owners
    return rows.filter(same)


def is_in_use(rows: QuerySet[R], grant: GrantKey, token: Token, provider: Provider) -> bool:
    """Return whether a connection would end with a token, or has the very same token.

    Some providers issue the same token again at each consent.
    """
    if siblings(rows, grant, provider).exists():
        return True
    rows = _of_client(rows, grant)
    if grant.account_changed:
        # It may be the very token that another owner's connection has. That is rare, so all are opened.
        return any(_has(row, token) for row in rows.iterator())
    same = Q(owner=grant.owner)
    if grant.account_id:
        same |= Q(account_id=grant.account_id)
    return any(_has(row, token) for row in rows.filter(same))


def _of_client(rows: QuerySet[R], grant: GrantKey) -> QuerySet[R]:
    return rows.exclude(status=REVOKED).filter(provider=grant.provider, client_id=grant.client_id)


def _has(row: ConnectionRow, token: Token) -> bool:
    if not row.sealed_token:
        return False
    try:
        held = row.token
    except KeyUnavailable:
        return True  # perhaps
    same_refresh_token = token.refresh_token != "" and held.refresh_token == token.refresh_token
    return same_refresh_token or held.access_token == token.access_token


def is_shared(model: type[ConnectionRow], grant: GrantKey, provider: Provider) -> bool:
    """Return whether revoking a token that is not stored could end a connection.

    Reads from the primary. A replica that lags may not show the connection yet.
    """
    return siblings(rows_of(model, router.db_for_write(model)), grant, provider).exists()


def outlook(connection: ConnectionRow) -> Outlook:
    """Return what becomes of a connection's token at the provider when the connection ends now.

    ``revoked``; ``kept``, because another connection would end with it. It stays valid if the provider cannot
    revoke it (``unsupported``), or if no key opens it (``unreadable``).
    """
    if not is_readable(connection):
        return "unreadable"
    pending = PendingRevocation.of(connection)
    try:
        provider = conf.declared_provider(pending.provider, pending.owner)
    except ImproperlyConfigured:
        return "revoked"  # once its settings are back
    if not has_revocation(provider):
        return "unsupported"
    alias = router.db_for_write(type(connection), instance=connection)
    others = rows_of(type(connection), alias).exclude(pk=connection.id)
    return "kept" if siblings(others, pending.grant_key(), provider).exists() else "revoked"


def is_readable(connection: ConnectionRow) -> bool:
    """Return whether a key opens the connection's token. No other token can be revoked."""
    try:
        return not connection.sealed_token or bool(connection.token)
    except KeyUnavailable:
        return False


def awaits_revocation(connection: ConnectionRow) -> bool:
    """Return whether a token of this connection is to be revoked at a later attempt."""
    rows = PendingRevocation.objects.using(router.db_for_write(PendingRevocation))
    return rows.waiting().filter(connection_id=connection.pk).exists()


def can_revoke(slug: str, owner: str) -> bool:
    """Return whether the provider's settings name a way to revoke; True where they are unknown."""
    try:
        provider = conf.declared_provider(slug, owner)
    except ImproperlyConfigured:
        return True  # its settings may come back
    return has_revocation(provider)


def has_revocation(provider: Provider) -> bool:
    """Return whether a provider has a way to revoke a token."""
    if provider.revocation.style == "none":
        return False
    return bool(provider.revocation_endpoint) or provider.needs_discovery


# --- tokens that are kept aside -------------------------------------------------------------------


def keep_aside(pending: PendingRevocation, token: Token, alias: str) -> bool:
    """Keep a token that its row does not hold any more, until a connection of its account ends.

    Call it in the transaction that takes the token from the row. ``pending``: from the row before that, not
    saved. Returns False where nothing is left to revoke: the token has expired, or the provider cannot
    revoke it.
    """
    pending.seal(token)
    if not is_left(pending, token):
        return False
    pending.next_attempt_at = datetime.now(UTC) if _ends_alone(pending) else None
    pending.save(force_insert=True, using=alias)
    _limit_kept(pending, alias)
    return True


def is_left(pending: PendingRevocation, token: Token) -> bool:
    """Return whether there is something to revoke: the token may work, and its provider can revoke it."""
    end = pending.end_of(token)
    expired = end is not None and end <= datetime.now(UTC)
    # The client's own token needs no refresh token and expires soon.
    return not expired and not token.reissuable and can_revoke(pending.provider, pending.owner)


def _ends_alone(pending: PendingRevocation) -> bool:
    """Return whether a revocation ends nothing but this token, so that there is no reason to keep it."""
    try:
        provider = conf.declared_provider(pending.provider, pending.owner)
    except ImproperlyConfigured:
        return False
    return provider.revocation.effect == "token"


def _limit_kept(pending: PendingRevocation, alias: str) -> None:
    """Drop the oldest kept tokens of an owner's account beyond MAX_KEPT."""
    if pending.next_attempt_at is not None:
        return
    names = ("provider", "client_id", "owner", "account_id")
    same: dict[str, Any] = {name: getattr(pending, name) for name in names}
    rows = PendingRevocation.objects.using(alias).kept().filter(**same)
    if surplus := list(rows.order_by("-created_at", "-pk").values_list("pk", flat=True)[MAX_KEPT:]):
        rows.filter(pk__in=surplus).delete()


def make_kept_due(connection: ConnectionRow, alias: str, retry_at: datetime) -> list[PendingRevocation]:
    """Make the tokens due that are kept for the account of a connection that ends.

    Call it in the transaction that ends the connection. Returns the newest few, for an attempt after the
    commit: they are due at ``retry_at``, the others now.
    """
    unknown = Q(account_id=None) | Q(account_id="")
    same = unknown & (Q(owner=connection.owner) | Q(account_changed=True))
    if connection.account_id:
        same |= Q(account_id=connection.account_id)
    rows = (
        PendingRevocation.objects.using(alias)
        .kept()
        .filter(same, provider=connection.provider, client_id=connection.client_id)
    )
    found = list(rows.order_by("-created_at", "-pk")[: MAX_TRIED + 1])
    tried = found[:MAX_TRIED]
    if tried:
        rows.filter(pk__in=[one.pk for one in tried]).update(next_attempt_at=retry_at)
    if len(found) > MAX_TRIED:
        rows.update(next_attempt_at=datetime.now(UTC))
    return tried


# --- attempts -------------------------------------------------------------------------------------


def revoke_now(
    pending: PendingRevocation,
    token: Token,
    is_spared: Callable[[Provider], bool],
    *,
    before_request: Callable[[], None] = lambda: None,
    timeout: float | None = None,
) -> Attempt:
    """Ask the provider to revoke a token, unless ``is_spared``: a connection would end with it.

    ``before_request`` is called right before the request. ``timeout``: seconds, by default HTTP_TIMEOUT.
    Raises nothing that settings or HTTP cause.
    """
    try:
        return _revoke(pending, token, is_spared, before_request, timeout)
    except UnknownProvider:
        return Attempt("pending", "provider_missing")
    except (ImproperlyConfigured, InvalidProvider):
        return Attempt("pending", "invalid_settings")
    except CallError as error:  # its endpoints cannot be discovered now
        return Attempt("pending", getattr(error, "code", ""), getattr(error, "retry_after", None))


def _revoke(
    pending: PendingRevocation,
    token: Token,
    is_spared: Callable[[Provider], bool],
    before_request: Callable[[], None],
    timeout: float | None,
) -> Attempt:
    grant = pending.grant_key()
    provider = conf.provider(grant.provider, grant.owner).resolve_with_client(grant.variables)
    if not has_revocation(provider):
        return Attempt("unsupported")
    if provider.client_id != grant.client_id:
        return Attempt("pending", "client_changed")  # only the client that obtained the token can revoke it
    if is_spared(provider):
        details = {
            "action": "revocation_skipped",
            "provider": grant.provider,
            "connection": str(pending.connection_id),
        }
        logger.info("not revoked: another connection uses the same grant (%s)", grant.provider, extra=details)
        return Attempt("spared")
    before_request()
    with AuthorizationServer(provider, timeout=timeout or conf.http_timeout) as server:
        done: Revocation = revoke(server, token)
    return Attempt(done.outcome, done.code, done.retry_after)


def attempt(
    pending: PendingRevocation, model: type[ConnectionRow], *, timeout: float | None = None
) -> Attempt:
    """Try a pending revocation once, and record the result. ``model``: the model of connections."""
    alias = router.db_for_write(PendingRevocation, instance=pending)
    try:
        token = pending.open()
    except KeyUnavailable as error:
        done = Attempt("pending", error.code)
        conclude(pending, done, alias)
        return done

    def is_spared(provider: Provider) -> bool:
        return is_in_use(rows_of(model, alias), pending.grant_key(), token, provider)

    done = revoke_now(pending, token, is_spared, timeout=timeout)
    conclude(pending, done, alias)
    if done.outcome == "spared":
        keep_again(pending, alias, is_spared)
    return done


def conclude(pending: PendingRevocation, done: Attempt, alias: str) -> None:
    """Record the result of an attempt: delete the row if it is over, else set the next attempt."""
    rows = PendingRevocation.objects.using(alias).filter(pk=pending.pk)
    if done.over:
        rows.delete()
    elif done.outcome == "pending":
        wait = max(pause(pending.attempts), timedelta(seconds=done.retry_after or 0))
        moment = datetime.now(UTC) + wait
        rows.update(attempts=F("attempts") + 1, last_error=done.code[:64], next_attempt_at=moment)


def keep_again(pending: PendingRevocation, alias: str, is_spared: Callable[[Provider], bool]) -> None:
    """Keep a token that was spared. If the connection that needed it has ended meanwhile, it is due."""
    rows = PendingRevocation.objects.using(alias).filter(pk=pending.pk)
    pending.next_attempt_at = None
    rows.update(next_attempt_at=None, last_error="")
    # Only now: a connection that ends after this finds the token.
    if is_spared(conf.declared_provider(pending.provider, pending.owner)):
        _limit_kept(pending, alias)
    else:
        rows.update(next_attempt_at=datetime.now(UTC))


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
