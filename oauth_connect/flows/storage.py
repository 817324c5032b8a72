"""Stores the tokens of a finished flow, whichever grant it used, and knows which of them share a grant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from django.db import router, transaction
from django.db.models import QuerySet

from oauth_connect import signals
from oauth_connect.conf import conf
from oauth_connect.errors import CallbackRefused
from oauth_connect.flows.account import Account
from oauth_connect.flows.choice import replace_others
from oauth_connect.flows.other_tokens import OtherToken
from oauth_connect.models import Connection
from oauth_connect.models.lifecycle import access, connect, revocation
from oauth_connect.models.owner import Owner
from oauth_connect.models.pending_revocation import GrantKey
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.stores.transactions import write_transaction


def store_connection(
    token: Token, account: Account, *, others: Sequence[OtherToken] = (), **fields: Any
) -> Connection:
    """Store the token of a flow as ``objects.store`` does, and send the signal after the commit.

    ``others``: the other tokens of the response, stored for their entries in the same transaction. Ends an
    alarm about the provider's settings, because the provider has accepted them. If an owner may have one
    account at the provider, the others are disconnected. Raises CallbackRefused if the user has been
    deactivated during the flow.
    """
    owner, slug = Owner.of(fields["owner"]), fields["provider"]
    users = {owner.user, fields.get("connected_by")} - {None}
    present = connect.look_up(Connection, owner, slug, account.id, users)
    if not present.is_active:
        raise _inactive()
    # Asked before: when the token is stored, an error of the site's loader must not look like a failed flow.
    slugs = [slug, *(other.provider.slug for other in others)]
    replaces = [one for one in slugs if conf.declared_provider(one, owner.key).one_account]
    with _one_transaction() if others else nullcontext():
        connections = [_store_token(token, account, owner, present, fields)]
        connections += [_store_other(other, fields) for other in others]
    alarms = [present.has_alarm, *(True for _ in others)]
    for connection, has_alarm in zip(connections, alarms, strict=True):
        transaction.on_commit(partial(_after_commit, connection, has_alarm), using=connection._state.db)
    for connection in connections:
        if connection.provider in replaces:
            replace_others(owner, connection, actor=fields.get("connected_by") or owner.user)
    return connections[0]


def _store_token(
    token: Token,
    account: Account,
    owner: Owner,
    present: connect.Present[Connection],
    fields: Mapping[str, Any],
) -> Connection:
    connection: Connection = connect.store(
        QuerySet(Connection, using=router.db_for_write(Connection)),
        token_response=token,
        account_id=account.id,
        account_label=account.label,
        present=present,
        **{"connected_by": None, **fields, "owner": owner},
    )
    return connection


def _store_other(other: OtherToken, fields: Mapping[str, Any]) -> Connection:
    own = {
        "provider": other.provider.slug,
        "requested_scopes": other.completion.consented,
        "variables": dict(other.completion.values),
    }
    account = other.account or Account("", "")
    connection: Connection = Connection.objects.store(
        token_response=other.token,
        account_id=account.id,
        account_label=account.label,
        **{**fields, **own},
    )
    return connection


def _one_transaction() -> AbstractContextManager[None]:
    """Return a transaction in which all tokens of a response are stored, or none."""
    return write_transaction(router.db_for_write(Connection), Connection._meta.db_table)


def check_active(user: Any) -> None:
    """Raise CallbackRefused for a user who has been deactivated or deleted.

    Some authentication back ends keep such users signed in.
    """
    if user is None or not getattr(user, "is_active", True):
        raise _inactive()


def _inactive() -> CallbackRefused:
    return CallbackRefused("This user has been deactivated.", code="user_inactive")


def _after_commit(connection: Connection, has_alarm: bool) -> None:
    # With several clients, the others may still be refused.
    if has_alarm and conf.has_one_client(connection.provider):
        access.end_alarm(connection)
    signals.connected.send_robust(sender=Connection, connection=connection)


def is_shared(provider: Provider, owner: str, account: Account | None, variables: Mapping[str, str]) -> bool:
    """Return whether revoking a token that is not stored could end the grant of a connection.

    The account decides which connections share the grant. While it is unknown, assume any of the owner's
    does.
    """
    grant = GrantKey(
        provider=provider.slug,
        client_id=provider.client_id,
        owner=owner,
        account_id=account.id if account else None,
        variables=variables,
    )
    return revocation.is_shared(Connection, grant, provider)
