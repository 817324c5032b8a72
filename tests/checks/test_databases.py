"""Time zones, transactions and the schemas of tenants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.our_checks import found


@pytest.fixture
def reported_of(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Callable[..., set[str]]:
    """Change the entry of the default database, and return the ids of what is reported. Each has a hint."""

    def report(engine: str, **entry: Any) -> set[str]:
        changed = {**settings.DATABASES["default"], "ENGINE": engine, **entry}
        monkeypatch.setitem(settings.DATABASES, "default", changed)
        messages = found()
        assert all(message.hint for message in messages.values())
        return set(messages)

    return report


def test_times_without_a_time_zone_are_reported(settings) -> None:
    settings.USE_TZ = False
    messages = found()
    assert set(messages) == {"E021"}
    assert messages["E021"].is_serious()
    assert "USE_TZ = True" in (messages["E021"].hint or "")


@pytest.mark.parametrize(
    ("engine", "atomic", "reported"),
    [
        ("django.db.backends.sqlite3", True, {"W010"}),
        ("django.db.backends.sqlite3", False, set()),
        ("django.db.backends.postgresql", True, set()),
    ],
)
def test_atomic_requests_on_sqlite_are_reported(reported_of, engine, atomic, reported) -> None:
    options = {"transaction_mode": "IMMEDIATE"}  # without which another check speaks
    assert reported_of(engine, ATOMIC_REQUESTS=atomic, OPTIONS=options) == reported


@pytest.mark.parametrize(
    ("engine", "options", "reported"),
    [
        ("django.db.backends.sqlite3", {}, {"W020"}),
        ("django.db.backends.sqlite3", {"transaction_mode": "deferred"}, {"W020"}),
        ("django.db.backends.sqlite3", {"transaction_mode": None}, {"W020"}),
        ("django.db.backends.sqlite3", {"transaction_mode": "IMMEDIATE"}, set()),
        ("django.db.backends.sqlite3", {"transaction_mode": "exclusive"}, set()),
        ("django.db.backends.postgresql", {}, set()),
    ],
)
def test_transactions_on_sqlite_that_begin_as_readers_are_reported(
    reported_of, engine, options, reported
) -> None:
    assert reported_of(engine, OPTIONS=options) == reported


@pytest.mark.parametrize(
    ("engine", "state", "warned"),
    [
        ("django_tenants.postgresql_backend", None, {"W022"}),
        ("django_tenants.postgresql_backend", (print, print), set()),
        ("tenant_schemas.postgresql_backend", None, {"W022"}),
        ("django.db.backends.postgresql", None, set()),
    ],
)
def test_schemas_of_tenants_without_their_state_are_reported(
    configure, reported_of, engine, state, warned
) -> None:
    configure(CONNECTION_STATE=state)
    assert reported_of(engine) == warned
