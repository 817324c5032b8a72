"""Connections of a fake provider in the database: stored without a flow, and made older."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import router

from oauth_connect.conf import conf
from oauth_connect.errors import ReauthorizationRequired
from oauth_connect.flows.authorize import asked_scopes
from oauth_connect.models import Connection
from oauth_connect.models.owner import Owner
from oauth_connect.models.row import rows_of
from oauth_connect.protocol.token import Token
from oauth_connect.stores.columns import token_columns
from oauth_connect.testing.errors import FakeProviderError
from oauth_connect.testing.server import Account, FakeServer, shapes

AGE = timedelta(hours=1)  # since the expiry of a token that a test expires


def store(server: FakeServer, slug: str, owner: Owner, account: Account, scopes: Sequence[str]) -> Connection:
    """Store a connection as a flow would have, without pages and requests."""
    declared = conf.provider(slug, owner.key)
    entered = {name: shapes.value_for(declared, name) for name in declared.asked_of("user")}
    provider = declared.resolve_with_client(entered)
    asked = asked_scopes(provider, scopes, None)
    account_id, label = shapes.account_of(declared, account)
    stored: Connection = Connection.objects.store(
        owner=owner,
        provider=slug,
        token_response=server.issue(account.name, asked, provider.client_id),
        account_id=account_id,
        account_label=label,
        requested_scopes=asked,
        variables={**entered, **shapes.variables_of(declared, account)},
    )
    return stored


def newest(slug: str, owner: Owner) -> Connection | None:
    """Return the connection that was connected last."""
    rows = Connection.objects.from_primary().for_owner(owner).filter(provider=slug)
    return rows.exclude(status=Connection.Status.REVOKED).order_by("-updated_at").first()


def token_of(connection: Connection) -> Token:
    """Return the token as the database has it. Raises FakeProviderError for a connection without one."""
    try:
        token: Token = _row(connection).get().token
        return token
    except Connection.DoesNotExist:
        raise FakeProviderError(
            f"The connection {connection.pk} is not in the database. Was it deleted, or rolled back?"
        ) from None
    except ReauthorizationRequired:
        raise FakeProviderError(
            f"The connection {connection.pk} is disconnected, so it has no token. Connect again: "
            "fake.connect(client)"
        ) from None


def let_expire(connection: Connection) -> None:
    """Store the token as if it had expired an hour ago, also in this instance.

    A token without ``expires_in`` stays as it is: only the provider knows that it has ended.
    """
    row = _row(connection).get()
    token = row.token
    if token.expires_at is None:
        return
    shift = token.expires_at - datetime.now(UTC) + AGE
    older = replace(
        token,
        obtained_at=token.obtained_at - shift,
        received_at=token.received_at and token.received_at - shift,
        expires_at=token.expires_at - shift,
    )
    columns = token_columns(row, older, row.refresh_at)
    changes = {name: columns[name] for name in ("sealed_token", "expires_at")}
    _row(connection).update(**changes)
    for name, value in changes.items():
        setattr(connection, name, value)


def _row(connection: Connection) -> Any:
    alias = connection._state.db or router.db_for_write(Connection)
    return rows_of(Connection, alias).filter(pk=connection.pk)
