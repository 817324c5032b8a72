"""Finds a user's connection to a provider, and returns a session or an access token for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from asgiref.sync import sync_to_async

from oauth_connect.conf import conf
from oauth_connect.errors import AmbiguousConnection, ReauthorizationRequired
from oauth_connect.flows.paths import connect_path
from oauth_connect.models import Connection, Owner
from oauth_connect.protocol.provider import scope_tuple
from oauth_connect.protocol.session import ApiSession
from oauth_connect.tracebacks import without_locals


@without_locals
def session_for(
    user_or_owner: Any, provider: str, account_id: str | None = None, scopes: Iterable[str] = ()
) -> ApiSession:
    """Return a session for the owner's connection to a provider.

    Raises ReauthorizationRequired with ``connect_url`` where there is no usable connection or it lacks
    scopes, AmbiguousConnection where there are several, ImproperlyConfigured for an unknown provider.
    """
    return connection_for(user_or_owner, provider, account_id, scopes).session()


@without_locals
def access_token_for(
    user_or_owner: Any,
    provider: str,
    account_id: str | None = None,
    scopes: Iterable[str] = (),
    min_ttl: float = 60,
) -> str:
    """Return an access token that is valid for ``min_ttl`` seconds; errors as in ``session_for``."""
    return connection_for(user_or_owner, provider, account_id, scopes).access_token(min_ttl)


@without_locals
async def aaccess_token_for(
    user_or_owner: Any,
    provider: str,
    account_id: str | None = None,
    scopes: Iterable[str] = (),
    min_ttl: float = 60,
) -> str:
    """``access_token_for`` for async code; never blocks the event loop."""
    connection = await aconnection_for(user_or_owner, provider, account_id, scopes)
    return await connection.aaccess_token(min_ttl)


@without_locals
def connection_for(
    user_or_owner: Any, provider: str, account_id: str | None = None, scopes: Iterable[str] = ()
) -> Connection:
    """Return the one connection of an owner to a provider; errors as in ``session_for``."""
    scopes = scope_tuple(scopes)
    owner = Owner.of(user_or_owner)
    conf.declared_provider(provider, owner.key)
    if not getattr(owner.user, "is_active", True):
        raise ReauthorizationRequired("This user has been deactivated.", reason="owner_inactive")
    found = _not_revoked(owner, provider, account_id)
    if not found:
        raise ReauthorizationRequired(
            f"No {provider} account is connected. Send the user to connect_url.",
            reason="not_connected",
            connect_url=connect_path(provider, scopes=scopes, owner=owner),
        )
    if len(found) > 1:
        raise AmbiguousConnection(f"Several {provider} accounts are connected. Choose one with account_id.")
    connection = found[0]
    if connection.status != Connection.Status.ACTIVE:
        raise _reconnect(connection, scopes, connection.last_error or "revoked")
    if not connection.has_scopes(*scopes):
        missing = f"The {provider} account lacks scopes that are needed."
        raise _reconnect(connection, scopes, "missing_scopes", missing)
    return connection


@without_locals
async def aconnection_for(
    user_or_owner: Any, provider: str, account_id: str | None = None, scopes: Iterable[str] = ()
) -> Connection:
    """``connection_for`` for async code. Runs one query, in the thread of Django's async queries."""
    return await sync_to_async(connection_for)(user_or_owner, provider, account_id, scopes)


def _not_revoked(owner: Owner, provider: str, account_id: str | None) -> list[Connection]:
    rows = Connection.objects.for_owner(owner).filter(provider=provider)
    found = rows.exclude(status=Connection.Status.REVOKED)
    # Compared in Python, because some databases treat "abc" and "ABC" as equal.
    return [row for row in found if account_id is None or row.account_id == account_id]


def _reconnect(
    connection: Connection, scopes: Iterable[str], reason: str, message: str = ""
) -> ReauthorizationRequired:
    error = connection.reauthorization_required(reason, message)
    error.connect_url = connect_path(
        connection.provider, scopes=scopes, connection=connection.pk, owner=connection.owner
    )
    return error
