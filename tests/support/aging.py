"""A stored token grows older at once: as if it had been obtained so many seconds before."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db.models import QuerySet

from oauth_connect.engine import refresh
from oauth_connect.models import Connection
from oauth_connect.stores.columns import token_columns


def age(connection: Connection, seconds: float) -> Connection:
    """Return the row as it is then; instances that others hold keep the token as they know it."""
    rows = QuerySet(Connection, using=connection._state.db).filter(pk=connection.pk)
    token = rows.get().token
    passed = timedelta(seconds=seconds)
    ends = token.expires_at and token.expires_at - passed
    older = replace(token, obtained_at=token.obtained_at - passed, expires_at=ends)
    rows.update(**token_columns(connection, older, rows.get().refresh_at))
    return rows.get()


def prolong_back_off(connection: Connection) -> None:
    """Let the back-off last for an hour where a failure was noted: its own second or two may be over soon."""
    later = datetime.now(UTC) + timedelta(hours=1)
    rows = QuerySet(Connection, using=connection._state.db)
    rows.filter(pk=connection.pk, failures__gt=0, refresh_at__isnull=False).update(refresh_at=later)


def long_back_offs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ten minutes follow a failure, not a second or two: nothing is due again while a test runs."""
    monkeypatch.setattr(refresh, "pause", lambda failures, asked: 600.0)
