"""The behaviour that all commands share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model

from oauth_connect.management import commands
from oauth_connect.management.base import PIPE_CLOSED

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in Path(commands.__path__[0]).glob("oauth_*.py"))
WITH_ARGUMENTS = {"oauth_import", "oauth_login", "oauth_logout"}  # they have required arguments
USED = {
    "oauth_import": ["allauth"],
    "oauth_login": ["scripted", "--user", "grace"],
    "oauth_logout": ["scripted", "--user", "grace"],
}
DOCUMENTED = (ROOT / "docs" / "commands.md").read_text("utf-8")


def test_there_are_commands() -> None:
    assert {"oauth_doctor", "oauth_providers", "oauth_prune", "oauth_refresh"} <= set(NAMES)


@pytest.mark.django_db
def test_a_command_that_wraps_others_may_pass_skip_checks(command) -> None:
    assert command("oauth_refresh", skip_checks=True).status == 0


@pytest.mark.django_db
@pytest.mark.parametrize("field", ["id", "groups"], ids=["a UUID", "a relation"])
def test_a_username_that_its_column_cannot_hold_is_no_user(command, monkeypatch, field) -> None:
    monkeypatch.setattr(get_user_model(), "USERNAME_FIELD", field)
    run = command("oauth_prune", "--user", "nobody")
    assert (run.status, "There is no user 'nobody'" in run.err) == (2, True)


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_examples_and_the_exit_status(process, name) -> None:
    run = process(name, "--help")
    assert run.status == 0
    assert f"\n  manage.py {name} " in run.out, "as written, one line each"
    assert "exit status: 0" in run.out
    assert "--json" in run.out
    assert "--verbosity" in run.out


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_a_section_with_examples(name) -> None:
    assert f"\n## `{name}`\n" in DOCUMENTED
    assert f"manage.py {name}" in DOCUMENTED


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITH_ARGUMENTS])
def test_a_process_that_has_nothing_to_report_ends_with_0(process, name) -> None:
    run = process(name)
    assert (run.status, run.err) == (0, "")


@pytest.mark.parametrize("name", sorted(WITH_ARGUMENTS))
def test_a_process_without_its_argument_ends_with_2(process, name) -> None:
    run = process(name)
    assert (run.status, run.out) == (2, "")
    assert "required" in run.err


def test_a_reader_that_has_closed_the_pipe_gets_no_traceback(start) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = start("oauth_providers", stdout=writer)
    os.close(writer)
    _, err = ended.communicate(timeout=120)
    assert (ended.returncode, err) == (PIPE_CLOSED, "")


@pytest.mark.parametrize("arguments", ["--limit 0", "--limit x", "--within -1", "--within 1e9", "--nonsense"])
def test_a_wrong_option_ends_with_2(process, arguments) -> None:
    run = process("oauth_refresh", *arguments.split())
    assert run.status == 2
    assert run.out == ""


@pytest.mark.parametrize("name", sorted({*NAMES} - {"oauth_doctor", "oauth_providers"}))
def test_without_time_zones_nothing_is_started_and_the_reason_is_printed(command, settings, name) -> None:
    settings.USE_TZ = False
    run = command(name, *USED.get(name, []))  # this test may not use the database
    assert run.status == 2
    assert run.err.startswith("USE_TZ = False makes ")
    assert "Set USE_TZ = True" in run.err
    assert run.out == ""


def test_without_time_zones_providers_are_still_listed(command, settings) -> None:
    settings.USE_TZ = False
    assert command("oauth_providers").status == 0
