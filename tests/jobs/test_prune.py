"""Expired rows are deleted in batches, also by several threads in parallel."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from oauth_connect.jobs.prune import ExpiredRows
from oauth_connect.models import Connection, ConnectionEvent
from oauth_connect.models.lifecycle import history
from oauth_connect.stores import batched_delete

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]


@pytest.fixture
def connection(make_connection, configure) -> Connection:
    """A connection without a history."""
    configure(HISTORY_DAYS=0)
    made: Connection = make_connection()
    configure(HISTORY_DAYS=365)
    return made


def aged(connection: Connection, days: int, number: int = 1) -> None:
    """Write entries that are so many days old."""
    history.write([history.of(connection, history.Action.KEY_ROTATED) for _ in range(number)])
    newest = ConnectionEvent._base_manager.order_by("-pk").values_list("pk", flat=True)[:number]
    moment = timezone.now() - timedelta(days=days)
    ConnectionEvent._base_manager.filter(pk__in=list(newest)).update(created_at=moment)


def older_than(moment: datetime) -> ExpiredRows:
    return ExpiredRows("history", ConnectionEvent, "created_at", moment)


def test_old_events_are_pruned_in_batches_the_oldest_first(connection, monkeypatch):
    monkeypatch.setattr(batched_delete, "BATCH", 3)
    aged(connection, 5, number=4)
    aged(connection, 9, number=4)
    aged(connection, 1, number=2)
    batches = older_than(timezone.now() - timedelta(days=3)).prune()
    assert next(batches) == 3
    moments = ConnectionEvent.objects.values_list("created_at", flat=True)
    assert sorted((timezone.now() - moment).days for moment in moments) == [1, 1, 5, 5, 5, 5, 9]
    assert list(batches) == [3, 2]
    assert ConnectionEvent.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_any_number_may_prune_in_parallel(connection, monkeypatch, calls_at_once):
    monkeypatch.setattr(batched_delete, "BATCH", 10)
    aged(connection, 5, number=200)
    aged(connection, 1, number=5)
    before = timezone.now() - timedelta(days=3)
    counts = calls_at_once(4, lambda: sum(older_than(before).prune()))
    assert sum(counts) == 200, counts
    assert ConnectionEvent.objects.count() == 5
