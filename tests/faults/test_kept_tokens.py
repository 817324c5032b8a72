"""Connections of one account end in parallel, and each makes the tokens due that are kept for the account.

MariaDB under REPEATABLE READ, which is its own default and not Django's, locks the whole range of these rows.
"""

from __future__ import annotations

import pytest
from django.db import connection as database

from oauth_connect.models import Connection, PendingRevocation

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("scripted", "scripted_provider"),
    pytest.mark.vendor("mysql"),
]
TURNS = 5  # without the repetition, nearly each one has a deadlock


def test_no_deadlock_reaches_a_user_who_disconnects(make_connection, calls_at_once, monkeypatch):
    monkeypatch.setitem(database.settings_dict["OPTIONS"], "isolation_level", "repeatable read")
    database.close()
    for turn in range(TURNS):
        rows = [make_connection(owner=f"team:{turn}-{number}", account_id="ada") for number in range(4)]
        for _ in range(8):
            kept = PendingRevocation.of(rows[0])
            kept.seal(rows[0].token)
            kept.next_attempt_at = None
            kept.save(force_insert=True)
        left = iter(rows)
        assert calls_at_once(4, lambda left=left: next(left).disconnect()) == [None] * 4
    assert set(Connection.objects.values_list("status", flat=True)) == {"revoked"}
    assert not PendingRevocation.objects.kept().exists()
    database.close()
