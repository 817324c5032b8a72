"""A site that has set a stricter isolation level than its database's default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection as database

from oauth_connect.models import Connection
from tests.faults.held import held_by_another, wait_until_somebody_waits
from tests.faults.processes import at_once
from tests.faults.worker import BEFORE_SAVE
from tests.servers.scripted import Answer
from tests.support.tokens import EXPIRED, FRESH, stored

pytestmark = pytest.mark.django_db(transaction=True)

both_levels = pytest.mark.parametrize("level", ["repeatable read", "serializable"])


def options(level: str) -> dict[str, Any]:
    """For DATABASES; SQLite has one level only, the strictest."""
    if database.vendor == "postgresql":
        # For every statement; "isolation_level" there is one for transactions that the driver begins.
        return {"options": "-c default_transaction_isolation=" + level.replace(" ", "\\ ")}
    return {} if database.vendor == "sqlite" else {"isolation_level": level}


@contextmanager
def written_by_another(connection: Connection, inside: list[str]) -> Iterator[None]:
    """Commit a change to the row once a worker waits for it. On SQLite nobody writes beside a transaction."""
    if database.vendor == "sqlite" and inside:
        yield
        return
    with held_by_another(connection):
        yield
        wait_until_somebody_waits()


@pytest.mark.compliance("D30")
@both_levels
def test_callers_at_one_expiry_make_one_request_there_too(codeyard, make_connection, start, level):
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())

    orders = {"task": "call", "path": "user", "options": options(level)}
    workers = at_once([start(connection, connection, **orders) for _ in range(4)])
    met = [result for worker in workers for result in worker.results()]

    assert met == [{"status": 200, "version": 1}] * 8
    assert codeyard.refreshes == 1


@both_levels
@pytest.mark.parametrize("inside", [[], ["atomic"]], ids=["autocommit", "atomic"])
def test_a_claim_that_conflicts_with_another_write_is_tried_again(
    scripted, scripted_provider, make_connection, start, level, inside
):
    """PostgreSQL refuses an UPDATE there that had to wait for a row which has been changed."""
    scripted.on("/token", Answer(body=FRESH))
    connection = make_connection(age=EXPIRED)
    worker = start(connection, inside=inside, options=options(level)).ready()

    with written_by_another(connection, inside):
        worker.go()
    assert worker.result() == {"token": "access-1", "version": 1}

    assert len(scripted.asked("/token")) == 1


@both_levels
@pytest.mark.parametrize("inside", [[], ["writes"]], ids=["autocommit", "atomic"])
def test_a_save_that_conflicts_with_another_write_is_repeated_and_the_request_is_not(
    scripted, scripted_provider, make_connection, start, level, inside
):
    scripted.on("/token", Answer(body=FRESH))
    connection = make_connection(age=EXPIRED)
    orders = {"stops": [BEFORE_SAVE], "inside": inside, "options": options(level)}
    worker = start(connection, **orders).ready().go().until(BEFORE_SAVE)

    with written_by_another(connection, inside):
        worker.go()
    assert worker.result() == {"token": "access-1", "version": 1}

    if inside:
        assert get_user_model().objects.filter(username="written in the transaction").exists()
    assert stored(connection).token.refresh_token == "refresh-1"
    assert len(scripted.asked("/token")) == 1
