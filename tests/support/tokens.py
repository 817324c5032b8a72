"""A token response, ages of tokens, and queries that show a row as the database has it."""

from __future__ import annotations

import base64
import json
from typing import Any

from oauth_connect.models import Connection
from oauth_connect.models.row import PROTOCOL_COLUMNS

# The response to a refresh. The tokens before it are "access-0" and "refresh-0" (see `make_connection`).
FRESH: dict[str, Any] = {
    "access_token": "access-1",
    "refresh_token": "refresh-1",
    "token_type": "Bearer",
    "expires_in": 3600,
}


def tokens(name: str, **more: Any) -> dict[str, Any]:
    """Return a token response whose tokens are of that name."""
    issued = {"access_token": f"access-{name}", "refresh_token": f"refresh-{name}"}
    return {**FRESH, **issued, **more}


def id_token(*, payload: bytes | None = None, **claims: Any) -> str:
    """Return an ID token with these claims, or with a payload of any bytes."""
    content = json.dumps(claims).encode() if payload is None else payload
    return f"e30.{base64.urlsafe_b64encode(content).decode().rstrip('=')}.signature"


EXPIRED = 7200  # seconds since a token was obtained that is valid for an hour


def stored(connection: Connection) -> Connection:
    """Return the connection, loaded again."""
    return Connection.objects.get(pk=connection.pk)


def raw(connection: Connection) -> Any:
    """Return a plain queryset of the row. It can update the protocol's columns."""
    return Connection._base_manager.filter(pk=connection.pk)


def rows() -> Any:
    """Return a plain queryset of all rows. It can update the protocol's columns."""
    return Connection._base_manager.all()


def protocol_state(connection: Connection) -> dict[str, object]:
    """Return the stored values of the protocol's columns."""
    row = stored(connection)
    return {name: getattr(row, name) for name in PROTOCOL_COLUMNS}
