"""Tokens that no key opens, and copies of tokens in other tables."""

from __future__ import annotations

import copy
import types

import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.core.checks.registry import registry
from django.db import models
from django.test.utils import isolate_apps

from oauth_connect.checks import rows
from oauth_connect.models import Connection, PendingRevocation
from tests.support.acme import KEY
from tests.support.our_checks import found


@pytest.mark.compliance("B6")
@pytest.mark.django_db(databases="__all__")
def test_rows_that_no_key_opens_are_reported_when_the_check_may_use_the_database(
    configure, make_connection
) -> None:
    make_connection("acme")
    assert found() == {}
    configure(KEYS=[KEY])
    make_connection("acme")
    message = found()["E014"]
    assert "1 of 2" in message.msg
    assert "Put the key" in (message.hint or "")
    assert [check for check in run_checks() if check.id == message.id] == []
    assert message.id in {check.id for check in run_checks(databases=["default"], tags=["database"])}


def test_a_row_whose_key_is_lost_can_be_let_go(configure, make_connection) -> None:
    connection = make_connection("acme")
    configure(KEYS=[KEY])
    connection.disconnect()
    assert found() == {}


def test_a_database_without_our_table_is_not_asked(configure, make_connection, monkeypatch) -> None:
    make_connection("acme")
    configure(KEYS=[KEY])
    monkeypatch.setattr(Connection._meta, "db_table", "not_there_yet")
    assert found() == {}


# --- packages that copy rows ----------------------------------------------------------------------


def copies() -> list[str]:
    return [message.msg for message in rows.check_copies(None) if message.id == "oauth_connect.W031"]


def test_a_site_without_copies_gets_no_warning() -> None:
    assert copies() == []


def test_the_check_of_copies_is_registered() -> None:
    assert rows.check_copies in registry.get_checks()


@isolate_apps("tests.accounts")
def test_a_model_with_a_copied_column_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """django-simple-history copies the fields of a model into another one, as this does."""

    def history(name: str, columns: list[str]) -> type[models.Model]:
        fields = {column: copy.copy(Connection._meta.get_field(column)) for column in columns}
        meta = type("Meta", (), {"app_label": "accounts"})
        return type(name, (models.Model,), {**fields, "__module__": __name__, "Meta": meta})

    whole = history("HistoricalConnection", ["account_label", "sealed_token"])
    partly = history("HistoricalPart", ["account_label", "provider"])
    every_model = [Connection, PendingRevocation, partly, whole]
    monkeypatch.setattr(apps, "get_models", lambda **options: every_model)
    (message,) = copies()
    assert "accounts.HistoricalConnection" in message


@pytest.mark.parametrize(("fields", "warned"), [(["owner", "sealed_token"], True), (["owner"], False)])
def test_a_registration_with_django_reversion_is_found(
    monkeypatch: pytest.MonkeyPatch, fields: list[str], warned: bool
) -> None:
    revisions = types.SimpleNamespace(
        is_registered=lambda model: model is Connection,
        _get_options=lambda model: types.SimpleNamespace(fields=fields),
    )
    monkeypatch.setattr(apps, "is_installed", lambda name: name == "reversion")
    monkeypatch.setattr(rows, "import_module", lambda name: {"reversion.revisions": revisions}[name])
    assert bool(copies()) is warned
