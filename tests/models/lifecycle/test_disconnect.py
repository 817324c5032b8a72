"""Disconnecting ends local use and queues the revocation."""

from __future__ import annotations

import pytest

from oauth_connect.models import PendingRevocation
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
