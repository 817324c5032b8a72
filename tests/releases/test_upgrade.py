"""A database that an earlier release wrote goes on after an upgrade: its tokens open, refresh and end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from oauth_connect.models import Connection, ConnectionEvent, ConsumedState, PendingRevocation, ProviderState
from oauth_connect.models.lifecycle.revocation import attempt
from tests.releases import FILES, load, scratch
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.tokens import FRESH

pytestmark = pytest.mark.parametrize("release", FILES, ids=lambda path: path.stem, indirect=True)


@pytest.fixture
def release(
    request: pytest.FixtureRequest,
    django_db_setup: None,
    django_db_blocker: Any,
    tmp_path: Path,
    settings: Any,
    configure: Callable[..., None],
    scripted: ScriptedServer,
    scripted_entry: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    """What a release stored, in a database with its schema that was then migrated to the newest.

    Without ``django_db``, which lets a test use the run's own databases only.
    """
    frozen = load(request.param)
    configure(PROVIDERS={"acme": scripted_entry}, KEYS=[frozen["key"]])
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/revoke", Answer())
    with django_db_blocker.unblock(), scratch.scratch_database(tmp_path):
        settings.DATABASE_ROUTERS = ["tests.releases.scratch.Everything"]
        write(frozen)
        scratch.migrate_to_the_newest()
        yield frozen


def write(frozen: dict[str, Any]) -> None:
    models = scratch.migrate_to(frozen["migration"])
    models.get_model("accounts", "User").objects.using(scratch.ALIAS).create(
        pk=frozen["user"], username="ada"
    )
    for name, rows in frozen["rows"].items():
        model = models.get_model(scratch.APP, name)
        assert scratch.columns_of(model) == set(rows[0]), "a migration that was released has been changed"
        for row in rows:
            scratch.insert(model, row)


def of_account(name: str) -> Connection:
    return Connection.objects.get(account_id=name)


def test_what_is_due_is_refreshed(release: dict[str, Any], scripted: ScriptedServer) -> None:
    connection = of_account("due")
    version = connection.version
    assert connection.access_token() == "access-1"
    (request,) = scripted.asked("/token")
    assert request.form["refresh_token"] == "refresh-due"
    connection = of_account("due")
    assert connection.version == version + 1
    assert connection.token.refresh_token == "refresh-1"
    assert connection.token.extra["team"] == {"id": 7}


def test_what_was_in_doubt_under_a_lease_that_ran_out_heals(release: dict[str, Any]) -> None:
    assert of_account("in-doubt").in_doubt
    of_account("in-doubt").refresh()
    connection = of_account("in-doubt")
    assert (connection.version, connection.in_doubt, connection.lease_owner) == (1, False, "")
    assert connection.token.access_token == "access-1"


def test_a_token_that_is_still_valid_serves_without_a_request(
    release: dict[str, Any], scripted: ScriptedServer
) -> None:
    assert of_account("valid").access_token() == "access-valid"
    assert not scripted.requests


def test_a_connection_is_ended_at_its_provider(release: dict[str, Any], scripted: ScriptedServer) -> None:
    of_account("of-a-team").disconnect()
    assert [request.form["token"] for request in scripted.asked("/revoke")] == ["refresh-of-a-team"]
    assert of_account("of-a-team").sealed_token is None


def test_a_revocation_that_waits_is_made_up_for(release: dict[str, Any], scripted: ScriptedServer) -> None:
    (pending,) = PendingRevocation.objects.all()
    assert attempt(pending, Connection).outcome == "revoked"
    assert [request.form["token"] for request in scripted.asked("/revoke")] == ["refresh-gone"]
    assert not PendingRevocation.objects.exists()


def test_nothing_else_is_lost(release: dict[str, Any], scripted: ScriptedServer) -> None:
    models = (Connection, PendingRevocation, ConsumedState, ProviderState, ConnectionEvent)
    for model in models:
        assert model.objects.count() == len(release["rows"][model._meta.model_name])
    marked, forgotten, due = (of_account(name) for name in ("marked", "forgotten", "due"))
    assert (marked.status, marked.last_error) == ("reauthorization_required", "revoked")
    assert (forgotten.status, forgotten.sealed_token) == ("revoked", None)
    assert (due.account_label, due.extra) == ("Ada Lovelace ✓", {"site": [1, None]})
    user = get_user_model().objects.get()
    assert set(Connection.objects.for_owner(user)) == set(Connection.objects.filter(user=user))
    assert Connection.objects.due().count() == 2
