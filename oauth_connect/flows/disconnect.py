"""Disconnecting an account."""

from __future__ import annotations

import uuid

from oauth_connect.models import Connection, Owner


def disconnect(owner: Owner, pk: uuid.UUID) -> Connection:
    """Disconnect one of the owner's connections. Raises Connection.DoesNotExist for anybody else's."""
    connection = owned(owner, pk)
    connection.disconnect()
    return connection


def owned(owner: Owner, pk: uuid.UUID) -> Connection:
    """Return one of the owner's living connections; somebody else's does not exist."""
    rows = Connection.objects.for_owner(owner).exclude(status=Connection.Status.REVOKED)
    return rows.get(pk=pk)
