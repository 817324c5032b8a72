"""How a connection ends: local use stops first, then the provider is asked to revoke."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction
from django.db.models import F, QuerySet

from oauth_connect import signals
from oauth_connect.conf import conf
from oauth_connect.engine.revoke import revoke
from oauth_connect.engine.store import REVOKED
from oauth_connect.errors import CallError, InvalidProvider, KeyUnavailable
from oauth_connect.models.pending_revocation import PendingRevocation
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.token import Token
from oauth_connect.stores.row import UNLEASED

if TYPE_CHECKING:
    from oauth_connect.models.connection import Connection

RETRY = timedelta(minutes=5)


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
    if _revoked(connection, token):
        return
    alias = router.db_for_write(type(connection), instance=connection)
    pending = PendingRevocation.of(connection)
    pending.seal(token)
    pending.save(using=alias)


def _revoked(connection: Connection, token: Token) -> bool:
    try:
        provider = connection.get_provider()
    except CallError:  # its endpoints cannot be discovered now
        return False
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
        provider = conf.provider(pending.provider, pending.owner).resolve(pending.variables)
        token = pending.open()
    except (ImproperlyConfigured, InvalidProvider, CallError):
        return False
    if provider.client_id != pending.client_id:
        return False  # the app that obtained the token is no longer in the settings
    with AuthorizationServer(provider, timeout=conf.http_timeout) as server:
        outcome = revoke(server, token)
    if outcome == "pending":
        return False
    pending.delete()
    return True
