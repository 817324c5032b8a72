"""Due rows are dispatched in chunks. The receiver of a chunk refreshes the rows that are still due."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from oauth_connect.models import Connection
from oauth_connect.tasks import dispatch_due, refresh_connections
from tests.servers.scripted import Answer
from tests.support.tokens import EXPIRED, FRESH

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def provider(configure: Any, scripted: Any, scripted_entry: dict[str, Any]) -> None:
    configure(PROVIDERS={"scripted": scripted_entry, "b": scripted_entry})
    scripted.on("/token", Answer(body=FRESH))


class Queue(list[tuple[str, list[str]]]):
    def __call__(self, provider: str, pks: list[str]) -> None:
        self.append((provider, json.loads(json.dumps(pks))))

    @property
    def pks(self) -> list[str]:
        return [pk for _, pks in self for pk in pks]


def versions(connections: list[Connection]) -> list[int]:
    return [Connection.objects.get(pk=connection.pk).version for connection in connections]


def test_due_rows_are_dispatched_once_by_provider_the_longest_overdue_first(make_connection):
    late = [make_connection(age=EXPIRED + age) for age in (0, 300, 100, 200, 400)]
    other = make_connection("b", age=EXPIRED)
    make_connection()
    queue = Queue()
    assert dispatch_due(queue, chunk=2) == 6
    longest = [str(late[place].pk) for place in (4, 1, 3, 2, 0)]
    assert sorted(queue) == sorted(
        [
            ("b", [str(other.pk)]),
            ("scripted", longest[:2]),
            ("scripted", longest[2:4]),
            ("scripted", longest[4:]),
        ]
    )
    assert [provider for provider, _ in queue][:2] == ["b", "scripted"], "round robin"


def test_rows_due_at_the_same_time_are_dispatched_once(make_connection):
    made = [make_connection(age=EXPIRED) for _ in range(7)]
    Connection._base_manager.update(refresh_at=datetime.now(UTC) - timedelta(hours=1))
    queue = Queue()
    assert dispatch_due(queue, chunk=3) == 7
    assert [len(pks) for _, pks in queue] == [3, 3, 1]
    assert set(queue.pks) == {str(connection.pk) for connection in made}


def test_a_limit_holds_over_all_providers(make_connection):
    for slug in ("scripted", "b") * 3:
        make_connection(slug, age=EXPIRED)
    queue = Queue()
    assert dispatch_due(queue, chunk=2, limit=3) == 3
    assert [(provider, len(pks)) for provider, pks in queue] == [("b", 2), ("scripted", 1)]
    assert dispatch_due(Queue(), limit=0) == 0


def test_a_dispatch_claims_nothing_and_sends_no_request(scripted, make_connection):
    connection = make_connection(age=EXPIRED)
    assert dispatch_due(Queue()) == dispatch_due(Queue()) == 1
    assert not scripted.requests
    assert Connection._base_manager.get(pk=connection.pk).lease_owner == ""


def test_a_chunk_is_one_query(make_connection, django_assert_num_queries):
    for _ in range(6):
        make_connection(age=EXPIRED)
    queue = Queue()
    with django_assert_num_queries(5):  # the state of the provider, three chunks, and an empty one
        dispatch_due(queue, providers=["scripted"], chunk=2)
    assert len(queue) == 3


def test_a_chunk_size_of_zero_is_refused():
    with pytest.raises(ValueError, match="chunk"):
        dispatch_due(Queue(), chunk=0)


def test_only_named_and_enabled_providers_are_dispatched(configure, scripted_entry, make_connection):
    make_connection(age=EXPIRED)
    make_connection("b", age=EXPIRED)
    named = Queue()
    assert dispatch_due(named, providers=["b"]) == 1
    assert [provider for provider, _ in named] == ["b"]
    configure(PROVIDERS={"scripted": scripted_entry, "b": {**scripted_entry, "enabled": False}})
    enabled = Queue()
    assert dispatch_due(enabled) == 1
    assert [provider for provider, _ in enabled] == ["scripted"]


def test_dispatched_rows_are_refreshed(scripted, make_connection):
    due = [make_connection(age=EXPIRED) for _ in range(5)]
    untouched = make_connection(age=EXPIRED)
    counts = refresh_connections([str(connection.pk) for connection in due])
    assert json.loads(json.dumps(counts)) == {"refreshed": 5}
    assert versions(due) == [1] * 5
    assert versions([untouched]) == [0]


def test_rows_dispatched_twice_are_refreshed_once(scripted, make_connection):
    pks = [str(make_connection(age=EXPIRED).pk) for _ in range(3)]
    assert refresh_connections(pks, provider="scripted") == {"refreshed": 3}
    assert refresh_connections(pks, provider="scripted") == {}
    assert len(scripted.asked("/token")) == 3


def test_a_row_that_is_no_longer_due_or_deleted_is_skipped(scripted, make_connection):
    gone, valid = make_connection(age=EXPIRED), make_connection()
    Connection.objects.filter(pk=gone.pk).delete()
    assert refresh_connections([str(gone.pk), str(valid.pk)]) == {}
    assert not scripted.requests


def test_within_is_part_of_the_message(make_connection):
    connection = make_connection(age=3000)
    assert dispatch_due(Queue()) == 0
    queue = Queue()
    assert dispatch_due(queue, within=3600) == 1
    assert refresh_connections(queue.pks) == {}
    assert refresh_connections(queue.pks, within=3600) == {"refreshed": 1}
    assert versions([connection]) == [1]


def test_one_bad_row_stops_nothing(scripted, make_connection):
    scripted.on(
        "/token",
        Answer(400, body={"error": "invalid_grant"}),
        Answer(body=FRESH),
    )
    pks = [str(make_connection(age=EXPIRED).pk) for _ in range(4)]
    assert refresh_connections(pks, workers=1) == {"reauthorization_required": 1, "refreshed": 3}
