"""Makes stored tokens older, and back-offs longer, than the clock of a test allows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db.models import QuerySet

from oauth_connect.engine import refresh
from oauth_connect.models import Connection
from oauth_connect.stores.columns import token_columns


def age(connection: Connection, seconds: float) -> Connection:
    """Store the token as if it had been obtained ``seconds`` earlier, and return the row.

    Other instances of the row keep the token that they have loaded.
    """
    rows = QuerySet(Connection, using=connection._state.db).filter(pk=connection.pk)
    token = rows.get().token
    shift = timedelta(seconds=seconds)
    expires_at = token.expires_at and token.expires_at - shift
    received_at = token.received_at and token.received_at - shift
    obtained_at = token.obtained_at - shift
    older = replace(token, obtained_at=obtained_at, received_at=received_at, expires_at=expires_at)
    rows.update(**token_columns(connection, older, rows.get().refresh_at))
    return rows.get()


def prolong_back_off(connection: Connection) -> None:
    """Set the back-off of a failed connection to an hour, because a test may outlast a second or two."""
    later = datetime.now(UTC) + timedelta(hours=1)
    rows = QuerySet(Connection, using=connection._state.db)
    rows.filter(pk=connection.pk, failures__gt=0, refresh_at__isnull=False).update(refresh_at=later)


def long_back_offs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back off ten minutes after a failure, so that nothing is due again during a test."""
    monkeypatch.setattr(refresh, "pause", lambda failures, asked: 600.0)
