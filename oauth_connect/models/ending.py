"""How a connection ends: local use stops first, then the provider is asked to revoke."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction
from django.db.models import F, Q, QuerySet

from oauth_connect import signals
from oauth_connect.conf import conf
from oauth_connect.engine.revoke import revoke
from oauth_connect.engine.store import REVOKED
from oauth_connect.errors import CallError, InvalidProvider, KeyUnavailable
from oauth_connect.models.pending_revocation import PendingRevocation
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.stores.row import UNLEASED

if TYPE_CHECKING:
    from oauth_connect.models.connection import Connection

logger = logging.getLogger("oauth_connect")
RETRY = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class TokenOf:
    """What a token that is to be revoked belongs to. ``account_id`` is None where it is not known."""

    provider: str
    client_id: str
    owner: str
    account_id: str | None
    variables: Mapping[str, Any]


def siblings(rows: QuerySet[Any], what: TokenOf, provider: Provider) -> QuerySet[Any]:
    """Return those of the connections that a revocation of this token would end too.

    As long as the account is not known, any of the owner's might be one.
    """
    rows = rows.exclude(status=REVOKED).filter(provider=what.provider, client_id=what.client_id)
    effect = provider.revocation.effect
    if effect == "token" or provider.revocation.style == "none":
        return rows.none()
    same = Q(account_id=what.account_id) if what.account_id else Q(owner=what.owner)
    if effect == "account" and what.variables:
        same |= Q(variables=dict(what.variables))
    return rows.filter(same)


def disconnect(connection: Connection) -> None:
    """Forget the token and revoke it, in this order; both or neither with the caller's transaction."""
    alias = router.db_for_write(type(connection), instance=connection)
    with transaction.atomic(using=alias):
        rows: QuerySet[Connection] = QuerySet(type(connection), using=alias)
        present = rows.select_for_update().filter(pk=connection.pk).first()
        pending = _keep(present, alias) if present is not None else None
        forgotten: dict[str, Any] = {
            "sealed_token": None,
            "status": REVOKED,
            "expires_at": None,
            "refresh_at": None,
        }
        forgotten |= {"last_error": "", "failures": 0, "in_doubt": False, **UNLEASED}
        rows.filter(pk=connection.pk).update(
            **forgotten, version=F("version") + 1, updated_at=datetime.now(UTC)
        )
        connection.__dict__.update(forgotten, version=(present or connection).version + 1)
        transaction.on_commit(lambda: _ended(connection, pending), using=alias)


def bury(connection: Connection, token: Token) -> None:
    """Revoke a token that was minted for a row that is gone; keep it for later where that fails."""
    alias = router.db_for_write(type(connection), instance=connection)
    if _spared_or_revoked(connection, token, QuerySet(type(connection), using=alias)):
        return
    pending = PendingRevocation.of(connection)
    pending.seal(token)
    pending.save(using=alias)


def _spared_or_revoked(connection: Connection, token: Token, rows: QuerySet[Connection]) -> bool:
    what = TokenOf(
        provider=connection.provider,
        client_id=connection.client_id,
        owner=connection.owner,
        account_id=connection.account_id,
        variables=connection.variables,
    )
    try:
        provider = conf.provider(connection.provider, connection.owner).at_instance(connection.variables)
    except CallError:  # its endpoints cannot be discovered now
        return False
    if _is_shared(rows, what, provider, connection.pk):
        return True
    with AuthorizationServer(provider, timeout=conf.http_timeout) as server:
        return revoke(server, token) != "pending"


def _keep(connection: Connection, alias: str) -> PendingRevocation | None:
    """Put the sealed token aside before it leaves the row: a crash must not leave it alive and forgotten."""
    try:
        token = connection.token if connection.sealed_token else None
    except KeyUnavailable:
        return None  # no key opens it, so nobody can revoke it; forgetting it is all that is left
    if token is None:
        return None
    pending = PendingRevocation.of(connection)
    pending.next_attempt_at = datetime.now(UTC) + RETRY
    pending.seal(token)
    pending.save(using=alias)
    return pending


def _ended(connection: Connection, pending: PendingRevocation | None) -> None:
    if pending is not None:
        attempt(pending)
    signals.disconnected.send_robust(sender=type(connection), connection=connection)


def attempt(pending: PendingRevocation) -> bool:
    """Try one kept revocation; True when nothing is left to do."""
    try:
        provider = conf.provider(pending.provider, pending.owner).at_instance(pending.variables)
        token = pending.open()
    except (ImproperlyConfigured, InvalidProvider, CallError):
        return False
    if provider.client_id != pending.client_id:
        return False  # the app that obtained the token is no longer in the settings
    alias = router.db_for_write(type(pending), instance=pending)
    rows: QuerySet[Any] = QuerySet(apps.get_model("oauth_connect", "Connection"), using=alias)
    if _is_shared(rows, _what(rows, pending), provider, pending.connection_id):
        pending.delete()
        return True
    with AuthorizationServer(provider, timeout=conf.http_timeout) as server:
        outcome = revoke(server, token)
    if outcome == "pending":
        return False
    pending.delete()
    return True


def _what(rows: QuerySet[Any], pending: PendingRevocation) -> TokenOf:
    row = rows.filter(pk=pending.connection_id).values_list("account_id", flat=True)[:1]
    return TokenOf(
        provider=pending.provider,
        client_id=pending.client_id,
        owner=pending.owner,
        account_id=next(iter(row), None),
        variables=pending.variables,
    )


def _is_shared(rows: QuerySet[Any], what: TokenOf, provider: Provider, pk: Any) -> bool:
    """Tell whether to leave the token alone: another connection lives on the same grant. Said in the log."""
    if not siblings(rows, what, provider).exclude(pk=pk).exists():
        return False
    details = {"action": "revocation_skipped", "provider": what.provider, "connection": str(pk)}
    logger.info("not revoked: another connection lives on the same grant (%s)", what.provider, extra=details)
    return True
