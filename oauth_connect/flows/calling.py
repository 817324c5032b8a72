"""Finds a user's connection to a provider, and returns a session or an access token for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from asgiref.sync import sync_to_async
from django.db import router

from oauth_connect.conf import conf
from oauth_connect.errors import AmbiguousConnection, ReauthorizationRequired
from oauth_connect.flows.choice import account_in_use
from oauth_connect.flows.paths import choose_path, connect_path, site_path
from oauth_connect.flows.site import is_undecided
from oauth_connect.models import Connection, Owner
from oauth_connect.protocol.grants.scopes import cover
from oauth_connect.protocol.provider import Provider, scope_tuple
from oauth_connect.protocol.session import ApiSession
from oauth_connect.stores.whole_rows import rows_where
from oauth_connect.tracebacks import without_locals


@without_locals
def session_for(
    user_or_owner: Any, provider: str, account_id: str | None = None, scopes: Iterable[str] = ()
) -> ApiSession:
    """Return a session for the owner's connection to a provider.

    Raises ReauthorizationRequired with ``connect_url`` where there is no usable connection or it lacks
    scopes, AmbiguousConnection where there are several and the owner has not chosen one, ImproperlyConfigured
    for an unknown provider.
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
    """Return the connection of an owner to a provider; errors as in ``session_for``.

    Of several accounts, the one that the owner has chosen, else the only one that is active.
    """
    scopes = scope_tuple(scopes)
    owner = Owner.of(user_or_owner)
    entry = conf.declared_provider(provider, owner.key)
    if not getattr(owner.user, "is_active", True):
        raise ReauthorizationRequired("This user has been deactivated.", reason="owner_inactive")
    found = _not_revoked(owner, provider, account_id)
    if not found:
        raise _not_connected(entry, owner, scopes)
    connection = account_in_use(found)
    if connection is None:
        raise AmbiguousConnection(
            f"Several {provider} accounts are connected. Choose one with account_id, or send the user to "
            "choose_url.",
            choose_url=choose_path(provider),
            connections=[row for row in found if row.status == Connection.Status.ACTIVE],
        )
    if connection.status != Connection.Status.ACTIVE:
        raise _reconnect(connection, scopes, connection.last_error or "revoked")
    if not has_consent(entry, connection, scopes):
        missing = f"The {provider} account lacks scopes that are needed."
        raise _reconnect(connection, scopes, "missing_scopes", missing)
    if is_undecided(entry, connection):
        raise _undecided(entry, connection)
    return connection


@without_locals
async def aconnection_for(
    user_or_owner: Any, provider: str, account_id: str | None = None, scopes: Iterable[str] = ()
) -> Connection:
    """``connection_for`` for async code. Runs one query, in the thread of Django's async queries."""
    return await sync_to_async(connection_for)(user_or_owner, provider, account_id, scopes)


def _not_connected(entry: Provider, owner: Owner, scopes: Iterable[str]) -> ReauthorizationRequired:
    """Return the error for an owner without a connection. Without a page that connects, it has no URL."""
    if entry.enabled and conf.connectable_provider(entry.slug, owner.key) is None:
        return ReauthorizationRequired(
            f"No {entry.slug} account is connected, and no page of this site connects one (grant_types and "
            f"endpoints of {entry.slug!r}). Use machine_session() for the site's own token, or oauth_login.",
            reason="not_connected",
        )
    path = connect_path(entry.slug, scopes=scopes, owner=owner)
    how = (
        "Send the user to connect_url."
        if path
        else "This URLconf lacks oauth_connect.urls (manage.py check)."
    )
    return ReauthorizationRequired(
        f"No {entry.slug} account is connected. {how}", reason="not_connected", connect_url=path
    )


def has_consent(entry: Provider, connection: Connection, scopes: Iterable[str]) -> bool:
    """Return whether the scopes were granted, or the user consented to them in the last flow.

    A server may name fewer scopes than it granted, or other ones. A second consent would change nothing.
    The granted ones decide alone where the server always names them all.
    """
    if set(scopes) <= set(connection.scopes) or cover(entry, connection.scopes, scopes):
        return True
    if entry.token_response.lists_all_scopes and connection.scopes:
        return False
    return cover(entry, [*connection.scopes, *connection.requested_scopes], scopes)


def _not_revoked(owner: Owner, provider: str, account_id: str | None) -> list[Connection]:
    alias = router.db_for_write(Connection)  # a replica may lag
    rows = rows_where(Connection, alias, owner=owner.key, user=owner.user_id, provider=provider)
    found = [row for row in rows if row.status != Connection.Status.REVOKED]
    # Compared in Python, because some databases treat "abc" and "ABC" as equal.
    return [row for row in found if account_id is None or row.account_id == account_id]


def _undecided(entry: Provider, connection: Connection) -> ReauthorizationRequired:
    error = connection.reauthorization_required(
        "site_undecided",
        f"The {entry.slug} account has access to several sites or organisations, and the user has chosen "
        "none. Send the user to connect_url.",
    )
    error.connect_url = site_path(connection.pk)
    return error


def _reconnect(
    connection: Connection, scopes: Iterable[str], reason: str, message: str = ""
) -> ReauthorizationRequired:
    error = connection.reauthorization_required(reason, message)
    error.connect_url = connect_path(
        connection.provider, scopes=scopes, connection=connection.pk, owner=connection.owner
    )
    return error
