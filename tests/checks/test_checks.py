"""All checks together: good settings raise nothing, and each id has a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from oauth_connect import checks
from tests.support.acme import ACME
from tests.support.our_checks import OURS, found


def test_good_settings_raise_nothing() -> None:
    assert found() == {}


@pytest.mark.django_db(databases="__all__")  # some of Django's own ask the database
def test_django_runs_our_checks(in_production) -> None:
    with override_settings(OAUTH_CONNECT={}):
        ids = {message.id for message in run_checks(include_deployment_checks=True)}
    assert {"oauth_connect.E001", "oauth_connect.E003"} <= ids


@pytest.mark.parametrize(
    "empty", [{"KEYS": None}, {"KEYS": [""]}, {"PROVIDERS": {"acme": {**ACME, "client_id": ""}}}]
)
def test_what_the_environment_lacks_fails_no_test_run(configure, empty) -> None:
    """A site reads keys and clients from environment variables, which are often missing in its tests."""
    configure(**empty)
    assert found() == {}


def test_every_wrong_provider_and_setting_is_reported_together(configure) -> None:
    configure(KEY=1, BASEURL=2, PROVIDERS={"a": {}, "b": {}, "acme": ACME})
    messages = [message for check in OURS for message in check(app_configs=None)]
    assert [message.id for message in messages].count("oauth_connect.E004") == 2
    assert [message.id for message in messages].count("oauth_connect.E005") == 2


@pytest.mark.parametrize("wrong", [None, [], "x", 5])
def test_settings_that_are_no_dict_are_reported_without_a_crash(settings, wrong: Any) -> None:
    settings.OAUTH_CONNECT = wrong
    messages = found()
    assert {"E001", "E004"} <= set(messages)
    assert all("must be a dict" in message.msg for message in messages.values())


def test_every_id_has_a_test() -> None:
    source = "".join(path.read_text("utf-8") for path in Path(checks.__file__).parent.glob("*.py"))
    ids = {word.split('"')[0] for word in source.split('id="oauth_connect.')[1:]}
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert ids
    assert {number for number in ids if f'"{number}"' not in tests and f".{number}" not in tests} == set()
