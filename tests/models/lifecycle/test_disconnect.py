"""Disconnecting ends local use and queues the revocation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from oauth_connect.models import PendingRevocation
from oauth_connect.signals import disconnected
from tests.servers.scripted import Answer
from tests.support.tokens import stored

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]


@pytest.mark.compliance("A34")
@pytest.mark.compliance("D50")
@pytest.mark.parametrize(("status", "pending"), [(503, 1), (200, 0), (400, 0)])
def test_local_use_ends_immediately_and_an_unrevoked_token_is_queued(
    make_connection, scripted, django_capture_on_commit_callbacks, status: int, pending: int
) -> None:
    scripted.on("/revoke", Answer(status))
    connection = make_connection()
    with django_capture_on_commit_callbacks(execute=True):
        connection.disconnect()
    assert (stored(connection).status, stored(connection).sealed_token) == ("revoked", None)
    assert scripted.asked("/revoke")[0].form["token"] == "refresh-0"
    queued = PendingRevocation.objects.all()
    assert [one.open().refresh_token for one in queued] == ["refresh-0"] * pending


@pytest.mark.parametrize("end", ["disconnect", "delete"])
def test_a_token_that_is_kept_while_the_last_connection_ends_is_due_nevertheless(
    end, make_connection, scripted, django_capture_on_commit_callbacks
) -> None:
    """A parallel attempt has seen the connection in use, because its end was not committed yet."""
    scripted.on("/revoke", Answer(503))
    connection = make_connection()
    kept = PendingRevocation.of(connection)
    kept.seal(connection.token)
    kept.next_attempt_at = None
    with django_capture_on_commit_callbacks(execute=True):
        getattr(connection, end)()
        kept.save()
    assert not PendingRevocation.objects.kept().exists()


@contextmanager
def failing_after_the_commit(error: OperationalError) -> Iterator[None]:
    """Fail the first statement about pending revocations that is outside of a transaction."""
    errors = [error]

    def run(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if errors and not connection.in_atomic_block and PendingRevocation._meta.db_table in sql:
            raise errors.pop()
        return execute(sql, *rest)

    with connection.execute_wrapper(run):
        yield
    assert not errors


@pytest.fixture
def ended():
    """The connections of which the signal was sent."""
    seen: list[Any] = []

    def receive(connection: Any, **kwargs: Any) -> None:
        seen.append(connection.pk)

    disconnected.connect(receive)
    yield seen
    disconnected.disconnect(receive)


@pytest.mark.django_db(transaction=True)
def test_an_error_after_a_deletion_ends_no_callback_of_the_site(make_connection, ended) -> None:
    row, called = make_connection(), []
    key = row.pk
    with failing_after_the_commit(OperationalError("gone")), transaction.atomic():
        row.delete()
        transaction.on_commit(lambda: called.append("the site's"))
    assert (ended, called) == ([key], ["the site's"])


@pytest.mark.django_db(transaction=True)
def test_a_deadlock_after_the_commit_repeats_no_disconnect(make_connection, scripted, ended) -> None:
    row = make_connection()
    with failing_after_the_commit(OperationalError(1213, "Deadlock found when trying to get lock")):
        row.disconnect()
    assert ended == [row.pk]
    assert [one.form["token"] for one in scripted.asked("/revoke")] == ["refresh-0"]
    assert not PendingRevocation.objects.exists()
