"""Disconnects an account."""

from __future__ import annotations

import uuid
from typing import Any

from oauth_connect.models import Connection, Owner
from oauth_connect.models.lifecycle.revocation import Outlook, awaits_revocation, outlook
from oauth_connect.tracebacks import without_locals

__all__ = ["Outlook", "awaits_revocation", "disconnect", "outlook", "owned"]


@without_locals
def disconnect(owner: Owner, pk: uuid.UUID, *, actor: Any = None) -> Connection:
    """Disconnect one of the owner's connections. Raises Connection.DoesNotExist for other connections.

    ``actor``: the user who requested it; by default the owner, if that is a user.
    """
    connection = owned(owner, pk)
    connection.disconnect(actor=actor or owner.user)
    return connection


@without_locals
def owned(owner: Owner, pk: uuid.UUID) -> Connection:
    """Return one of the owner's connections that is not disconnected. Raises Connection.DoesNotExist."""
    rows = Connection.objects.from_primary().for_owner(owner)
    found = rows.exclude(status=Connection.Status.REVOKED).get(pk=pk)
    if not found.owner_agrees:
        raise Connection.DoesNotExist
    return found
