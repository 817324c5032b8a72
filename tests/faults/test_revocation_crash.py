"""A process is killed while it revokes what a connection held. Killed means ``kill -9``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from oauth_connect.engine.store import REVOKED
from oauth_connect.models import Connection, PendingRevocation
from tests.faults.processes import Start
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.tokens import raw

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.compliance("D50", "A34")
def test_what_a_killed_process_was_revoking_is_revoked_by_oauth_prune(
    scripted: ScriptedServer,
    scripted_provider: dict[str, Any],
    make_connection: Callable[..., Connection],
    start: Start,
) -> None:
    connection = make_connection()
    kill_while_it_revokes(scripted, start, connection)
    row = raw(connection).get()
    assert (row.status, row.sealed_token) == (REVOKED, None)
    assert PendingRevocation.objects.get().open().refresh_token == "refresh-0"

    scripted.on("/revoke", Answer(200))
    PendingRevocation.objects.update(next_attempt_at=timezone.now())
    call_command("oauth_prune", verbosity=0)

    assert not PendingRevocation.objects.exists()
    assert [request.form["token"] for request in scripted.asked("/revoke")] == ["refresh-0"] * 2


def kill_while_it_revokes(scripted: ScriptedServer, start: Start, connection: Connection) -> None:
    answers = threading.Event()
    scripted.on("/revoke", Answer(200, hold=answers))
    worker = start(connection, task="disconnect").ready().go()
    scripted.wait_for("/revoke")
    worker.kill()
    answers.set()
