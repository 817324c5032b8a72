"""Disconnecting an account."""

from __future__ import annotations

import uuid
from typing import Any

from oauth_connect.models import Connection, Owner


def disconnect(owner: Owner, pk: uuid.UUID, *, actor: Any = None) -> Connection:
    """Disconnect one of the owner's connections. Raises Connection.DoesNotExist for anybody else's.

    ``actor``: the user who asks for it; the owner, where it is a user.
    """
    connection = owned(owner, pk)
    connection.disconnect(actor=actor or owner.user)
    return connection


def owned(owner: Owner, pk: uuid.UUID) -> Connection:
    """Return one of the owner's living connections; somebody else's does not exist."""
    rows = Connection.objects.for_owner(owner).exclude(status=Connection.Status.REVOKED)
    return rows.get(pk=pk)
