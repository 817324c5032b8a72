"""Connections that are inserted many at once, where there are none yet; a row that is there is left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from django.db import router, transaction

from oauth_connect.conf import conf
from oauth_connect.engine.refresh import refresh_time
from oauth_connect.models import history
from oauth_connect.models.connection import Connection
from oauth_connect.models.owner import Owner
from oauth_connect.models.querysets import identity_of
from oauth_connect.protocol.token import Token
from oauth_connect.stores.columns import token_columns
from oauth_connect.stores.waits import retried


def unsaved(token: Token, *, owner: Owner, provider: str, account_id: str, **facts: Any) -> Connection:
    """Return a connection with its token sealed, not saved yet."""
    identity = identity_of(owner.key, provider, account_id)
    people = {"owner": owner.key, "user": owner.user, "connected_by": owner.user}
    account = {"provider": provider, "account_id": account_id}
    connection = Connection(**people, **account, identity=identity, **facts)
    columns = token_columns(connection, token, refresh_time(token, conf.refresh_leeway))
    for name, value in columns.items():
        setattr(connection, name, value)
    return connection


def missing(connections: Sequence[Connection]) -> set[str]:
    """Return the identities of those of which there is no row."""
    identities = {connection.identity for connection in connections}
    alias = router.db_for_write(Connection)
    there = Connection.objects.using(alias).filter(identity__in=identities)
    return identities.difference(there.values_list("identity", flat=True))


def insert_missing(connections: Sequence[Connection], detail: Mapping[str, Any]) -> set[str]:
    """Insert those of which there is no row, and return their identities; ``detail`` is for the history.

    Whoever connects the same account at the same moment wins.
    """
    alias = router.db_for_write(Connection)
    return retried(alias, partial(_insert_missing, connections, detail, alias))


def _insert_missing(connections: Sequence[Connection], detail: Mapping[str, Any], alias: str) -> set[str]:
    """Insert rows and their history together: what a run that dies has left out, no other would write."""
    wanted = missing(connections)
    new = {connection.pk: connection for connection in connections if connection.identity in wanted}
    with transaction.atomic(using=alias):
        Connection.objects.using(alias).bulk_create(list(new.values()), ignore_conflicts=True)
        inserted = Connection.objects.using(alias).filter(pk__in=new).values_list("pk", flat=True)
        ours = [new[pk] for pk in inserted]
        history.write([history.of(one, history.Action.CONNECTED, detail=detail) for one in ours])
    return {one.identity for one in ours}
