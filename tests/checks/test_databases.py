"""Time zones, transactions and the schemas of tenants."""

from __future__ import annotations

import pytest

from tests.support.our_checks import found


def test_times_without_a_time_zone_are_reported(settings) -> None:
    settings.USE_TZ = False
    messages = found()
    assert set(messages) == {"E021"}
    assert messages["E021"].is_serious()
    assert "USE_TZ = True" in (messages["E021"].hint or "")


@pytest.mark.parametrize(
    ("engine", "atomic", "told"),
    [
        ("django.db.backends.sqlite3", True, {"W010"}),
        ("django.db.backends.sqlite3", False, set()),
        ("django.db.backends.postgresql", True, set()),
    ],
)
def test_atomic_requests_on_sqlite_are_reported(monkeypatch, settings, engine, atomic, told) -> None:
    options = {"transaction_mode": "IMMEDIATE"}  # without which another check speaks
    entry = {
        **settings.DATABASES["default"],
        "ENGINE": engine,
        "ATOMIC_REQUESTS": atomic,
        "OPTIONS": options,
    }
    monkeypatch.setitem(settings.DATABASES, "default", entry)
    messages = found()
    assert set(messages) == told
    assert all(message.hint for message in messages.values())


@pytest.mark.parametrize(
    ("engine", "options", "told"),
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
    monkeypatch, settings, engine, options, told
) -> None:
    entry = {**settings.DATABASES["default"], "ENGINE": engine, "OPTIONS": options}
    monkeypatch.setitem(settings.DATABASES, "default", entry)
    messages = found()
    assert set(messages) == told
    assert all(message.hint for message in messages.values())


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
    monkeypatch, settings, engine, state, warned
) -> None:
    settings.OAUTH_CONNECT = {**settings.OAUTH_CONNECT, "CONNECTION_STATE": state}
    monkeypatch.setitem(settings.DATABASES, "default", {**settings.DATABASES["default"], "ENGINE": engine})
    assert set(found()) == warned
