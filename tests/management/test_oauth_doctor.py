"""oauth_doctor: a line each, what is wrong and what to do, and no secret."""

from __future__ import annotations

import os
import pty
import socket
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import QuerySet
from django.db.utils import OperationalError
from django.test import override_settings

from oauth_connect.management.commands.oauth_doctor import Command
from oauth_connect.management.doctor import site
from oauth_connect.models import Connection, PendingRevocation, ProviderState
from tests.management.conftest import OTHER_KEY
from tests.servers.scripted import Answer

pytestmark = pytest.mark.django_db(transaction=True)

URLCONF = "tests.management.test_oauth_doctor"
urlpatterns: list[Any] = []


LOCMEM = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
PUBLIC = {
    "client_id": "client",
    "authorization_endpoint": "https://id.example/authorize",
    "token_endpoint": "https://id.example/token",
    "api_base_url": "https://api.example/",
}


@pytest.fixture(autouse=True)
def provider(scripted_provider: Any) -> None: ...


@pytest.fixture
def line(command):
    """The line on a subject, and the exit status."""

    def find(subject: str, *arguments: str) -> tuple[str, int]:
        run = command("oauth_doctor", *arguments)
        (found,) = (line for line in run.lines if line.startswith(f"{subject}:"))
        return found.removeprefix(f"{subject}: "), run.status

    return find


def test_a_healthy_site_is_ok_line_by_line(command, make_connection):
    make_connection()
    run = command("oauth_doctor")
    assert run.status == 0, run.out
    assert all(": OK" in line for line in run.lines)
    subjects = [line.partition(":")[0] for line in run.lines]
    assert subjects == [
        *("Settings", "Keys", "Sessions", "URLs", "Providers", "Provider scripted"),
        *("Redirect URI of scripted", "Database", "Migrations", "Clocks", "Sealed rows"),
        *("Owners", "Connections of scripted", "Pending revocations", "Alarms"),
        "15 checks",
    ]
    assert "https://app.example/oauth/scripted/callback/" in run.out


def test_what_is_wrong_comes_last_with_a_summary(command, configure, settings, scripted, make_connection):
    make_connection()
    settings.SESSION_ENGINE, settings.CACHES = "django.contrib.sessions.backends.cache", LOCMEM
    configure(KEYS=[OTHER_KEY])
    run = command("oauth_doctor")
    levels = [line.split(": ")[1].split(" ")[0] for line in run.lines[:-1]]
    assert levels == ["OK"] * 13 + ["WARNING", "ERROR"]
    assert run.lines[-1] == "15 checks: 13 OK, 1 warning, 1 error."
    assert run.err == "Wrong: Sealed rows."


@pytest.mark.parametrize(
    ("options", "no_color", "is_coloured"),
    [
        ({}, "", False),  # no terminal
        ({"force_color": True}, "", True),
        ({"force_color": True}, "1", True),
    ],
)
def test_levels_have_colours(command, monkeypatch, options, no_color, is_coloured):
    monkeypatch.setenv("NO_COLOR", no_color)
    lines = command("oauth_doctor", **options).lines
    assert [("\x1b[" in line) for line in lines[:-1]] == [is_coloured] * 15
    assert lines[0].startswith("Settings: ")
    assert ("Settings: OK" in lines[0]) is not is_coloured


@pytest.mark.parametrize(
    ("no_color", "arguments", "is_coloured"),
    [("", [], True), ("1", [], False), ("", ["--no-color"], False), ("1", ["--force-color"], True)],
)
def test_a_terminal_gets_colours_unless_it_wants_none(
    no_color, arguments, is_coloured, configure, monkeypatch
):
    """The command writes to a real terminal."""
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    main, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as out, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        Command().run_from_argv(["manage.py", "oauth_doctor", *arguments])
    shown = ""
    while "checks: OK" not in shown:
        shown += os.read(main, 65536).decode()
    os.close(main)
    assert ("\x1b[" in shown) is is_coloured


def test_one_provider_alone_is_examined(command, configure, scripted, scripted_entry, make_connection):
    configure(PROVIDERS=dict.fromkeys(("scripted", "another"), scripted_entry))
    make_connection()
    make_connection("another")
    configure(PROVIDERS={"scripted": scripted_entry, "another": {**scripted_entry, "client_id": ""}})
    run = command("oauth_doctor", "scripted", "--online")
    assert run.status == 0
    assert "another" not in run.out
    assert {"Provider scripted", "Connections of scripted", TOKEN} <= {
        line.partition(":")[0] for line in run.lines
    }
    assert "Provider another: ERROR" in command("oauth_doctor", "another").out


def test_a_provider_that_a_loader_knows_is_examined(command, configure, scripted_entry):
    configure(PROVIDERS={}, PROVIDER_LOADER=lambda slug, owner: PUBLIC if slug == "loaded" else None)
    assert "Provider loaded: OK" in command("oauth_doctor", "loaded").out


def test_a_name_that_is_no_provider_gets_a_suggestion(command):
    run = command("oauth_doctor", "scriptd")
    assert run.status == 2
    assert "did you mean 'scripted'?" in run.err


def test_json_has_the_same_and_the_numbers(command, make_connection):
    make_connection(age=7200)
    run = command("oauth_doctor", json=True)
    assert run.status == 0
    assert run.document["ok"] is True
    assert run.document["connections"] == {"scripted": {"active": 1}}
    assert run.document["due"] == {"scripted": 1}
    assert run.document["sample"] == {"rows": 1, "opened_by_key": [1], "unopened": 0}
    assert run.document["redirect_uris"] == {"scripted": "https://app.example/oauth/scripted/callback/"}
    assert set(run.document) == {
        *("ok", "findings", "redirect_uris", "connections", "due", "failing"),
        *("pending_revocations", "alarms", "sample", "owner_mismatches"),
    }


def test_connections_that_name_two_owners_are_counted(command, line, make_connection, other_user):
    QuerySet(Connection).filter(pk=make_connection().pk).update(user=other_user)
    found, status = line("Owners")
    assert found.startswith("ERROR: owner and user are not the same in connections: 1.")
    assert "oauth_repair_owners" in found
    assert status == 1
    assert command("oauth_doctor", json=True).document["owner_mismatches"] == 1


@pytest.mark.parametrize(
    ("subject", "wrong", "word"),
    [
        ("Settings", {"HTTP_TIMEOUT": -1}, "E004"),
        ("Settings", {"BASE_URL": "http://app.example"}, "E003"),
        ("Keys", {"KEYS": ["canary"]}, "E001"),
        ("Provider wrong", {"PROVIDERS": {"wrong": {"client_id": "x"}}}, "wrong.token_endpoint"),
        ("Settings", {"PROVIDERS": 5}, "E005"),
    ],
)
def test_wrong_settings_are_reported_and_the_rest_is_checked(line, command, configure, subject, wrong, word):
    configure(**wrong)
    text, status = line(subject)
    assert status == 1
    assert text.startswith("ERROR: ")
    assert word in text
    assert "Alarms: OK" in command("oauth_doctor").out


def test_what_is_wrong_with_a_provider_is_a_sentence_of_its_own(line, configure):
    configure(PROVIDERS={"mine": {"preset": "nowhere", "client_id": "x"}})
    text, _ = line("Provider mine")
    assert text.endswith("there is no preset 'nowhere'. Correct that field.")


def test_without_time_zones_the_database_is_not_asked(command, settings, make_connection):
    make_connection()
    settings.USE_TZ = False
    run = command("oauth_doctor")
    assert run.status == 1
    assert any(line.startswith("Settings: ERROR: USE_TZ = False") for line in run.lines)
    subjects = [line.partition(":")[0] for line in run.lines]
    assert subjects[-3:] == ["Redirect URI of scripted", "Settings", "7 checks"]
    assert run.err == "Wrong: Settings."


def test_each_subject_is_named_once_at_the_end(command, configure):
    configure(PROVIDRS={}, BASEURL="x")
    assert command("oauth_doctor").err == "Wrong: Settings."


@pytest.mark.parametrize("wrong", [None, 5])
def test_settings_that_are_no_dict_do_not_stop_it(command, settings, make_connection, wrong):
    make_connection()
    settings.OAUTH_CONNECT = wrong
    run = command("oauth_doctor")
    assert run.status == 1
    assert "Settings: ERROR" in run.out
    assert "Alarms: OK" in run.out


def test_verbosity_0_leaves_what_is_wrong(command, configure):
    assert command("oauth_doctor", verbosity=0).out == ""
    configure(BASE_URL="http://app.example")
    assert all(": OK" not in line for line in command("oauth_doctor", verbosity=0).lines)


# --- keys -----------------------------------------------------------------------------------------


def test_rows_are_opened_with_each_key(line, configure, settings, make_connection):
    (old,) = settings.OAUTH_CONNECT["KEYS"]
    make_connection()
    configure(KEYS=[OTHER_KEY, old])
    make_connection()
    make_connection()
    assert line("Sealed rows") == ("OK (a sample of 3: key 1 opens 2, key 2 opens 1)", 0)
    configure(KEYS=[OTHER_KEY])
    text, status = line("Sealed rows")
    assert status == 1
    assert "no key opens 1 of a sample of 3" in text


@pytest.mark.compliance("D45")
def test_no_secret_is_shown(command, configure, scripted_entry, settings, make_connection):
    secrets = ["canary-client", "access-0", "refresh-0", *settings.OAUTH_CONNECT["KEYS"]]
    configure(PROVIDERS={"scripted": {**scripted_entry, "client_secret": "canary-client"}})
    make_connection()
    for options in ({"json": True}, {"verbosity": 3}):
        run = command("oauth_doctor", "--online", **options)
        assert [secret for secret in secrets if secret in run.out + run.err] == []


# --- sessions and URLs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "word", "failed"),
    [
        ({"SESSION_COOKIE_SAMESITE": "Strict"}, "E008", 1),
        ({"SESSION_ENGINE": "nowhere"}, "nowhere", 1),
        ({"SESSION_ENGINE": "django.contrib.sessions.backends.cache", "CACHES": LOCMEM}, "one process", 0),
        ({"MIDDLEWARE": []}, "session middleware", 0),
    ],
)
def test_sessions(command, changes, word, failed):
    with override_settings(**changes):
        run = command("oauth_doctor")
    assert run.status == failed
    assert any(line.startswith("Sessions: ") and word in line and ": OK" not in line for line in run.lines)


def test_a_login_url_that_leads_nowhere(command, settings):
    settings.LOGIN_URL = "/nowhere/"
    run = command("oauth_doctor")
    assert run.status == 0
    assert any(line.startswith("URLs: WARNING: LOGIN_URL = '/nowhere/'") for line in run.lines)


@override_settings(ROOT_URLCONF=URLCONF)
def test_urls_that_are_not_included(command):
    run = command("oauth_doctor")
    assert "W007" in run.out
    assert "Redirect URI of scripted: WARNING: not known." in run.out
    assert run.status == 0


@pytest.mark.parametrize(
    ("debug", "told", "failed"),
    [
        (True, "OK (under DEBUG the host of the request, with the path /oauth/scripted/callback/)", 0),
        (False, 'WARNING: not known. Set OAUTH_CONNECT["BASE_URL"]', 1),
    ],
)
def test_under_debug_the_redirect_uri_needs_no_base_url(
    line, configure, settings, in_production, debug, told, failed
):
    configure(BASE_URL=None)
    settings.DEBUG = debug
    text, status = line("Redirect URI of scripted")
    assert text.startswith(told)
    assert status == failed


# --- the database ---------------------------------------------------------------------------------


def test_migrations_that_are_missing(line, command):
    recorder = MigrationRecorder(database)
    applied = sorted(name for app, name in recorder.applied_migrations() if app == "oauth_connect")
    for name in applied:
        recorder.record_unapplied("oauth_connect", name)
    try:
        text, status = line("Migrations")
        assert "Connections" not in command("oauth_doctor").out
    finally:
        for name in applied:
            recorder.record_applied("oauth_connect", name)
    assert (text, status) == (f"ERROR: not applied: {', '.join(applied)}. Run migrate.", 1)


@pytest.mark.parametrize(("apart", "told"), [(-50, "OK"), (70, "70 s apart"), (-600, "600 s apart")])
def test_clocks(line, monkeypatch, apart, told):
    monkeypatch.setattr(site, "database_now", lambda alias: datetime.now(UTC) + timedelta(seconds=apart))
    text, status = line("Clocks")
    assert told in text
    assert status == 0


def test_the_clock_of_the_database_is_really_asked():
    assert abs(site.database_now("default") - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_database_that_does_not_answer(command, monkeypatch):
    def gone(alias: str) -> datetime:
        raise OperationalError("canary: password of the database")

    monkeypatch.setattr(site, "database_now", gone)
    run = command("oauth_doctor")
    assert run.status == 1
    assert "Database: ERROR: The database reports an error" in run.out
    assert "canary" not in run.out + run.err


# --- connections ----------------------------------------------------------------------------------


def test_numbers_by_provider_and_status(line, make_connection, user):
    make_connection()
    make_connection(age=7200)
    failing, marked = make_connection(), make_connection()
    rows = Connection._base_manager
    rows.filter(pk=failing.pk).update(failures=3)
    rows.filter(pk=marked.pk).update(status="reauthorization_required", refresh_at=None)
    text, status = line("Connections of scripted")
    assert text.startswith("WARNING: 3 active, 1 reauthorization required, 1 due, 1 failing.")
    assert status == 0


def test_the_reason_of_failures_is_shown_immediately_and_only_in_known_words(line, command, make_connection):
    for code in ("timeout", "unauthorized_client", "timeout", "canary", "http_502"):
        row = Connection._base_manager.filter(pk=make_connection().pk)
        row.update(failures=1, last_error=code)
    text, status = line("Connections of scripted")
    assert text == (
        "WARNING: 5 active, 0 due, 5 failing. "
        "Failing: http_502 1, other_error 1, timeout 2, unauthorized_client 1."
    )
    assert status == 0
    assert command("oauth_doctor", json=True).document["failing"] == {"scripted": 5}


def test_connections_of_a_provider_that_the_settings_lack(line, configure, make_connection):
    make_connection()
    configure(PROVIDERS={})
    text, status = line("Connections of scripted")
    assert "not in the settings" in text
    assert status == 1
    configure(PROVIDER_LOADER=lambda slug, owner: None)
    assert line("Connections of scripted")[1] == 0


def test_pending_revocations_and_alarms(line, make_connection):
    pending = PendingRevocation.of(make_connection())
    pending.seal(make_connection().token)
    pending.save()
    ProviderState.objects.create(provider="scripted", alarm="invalid_client")
    assert line("Pending revocations")[0] == "OK (scripted 1)"
    text, status = line("Alarm of scripted")
    assert text.startswith("ERROR: invalid_client. Compare client_id")
    assert "The secret was sent by HTTP Basic" in text
    assert status == 1


# --- --online -------------------------------------------------------------------------------------

TOKEN = "scripted.token_endpoint"


@pytest.mark.parametrize(
    ("answer", "told", "failed"),
    [
        (Answer(200), "OK (responds, HTTP 200)", 0),
        (Answer(302, headers={"Location": "/elsewhere"}), "OK (responds, HTTP 302)", 0),
        (Answer(400, b"canary"), "OK (responds, HTTP 400)", 0),
        (Answer(405), "OK (responds, HTTP 405)", 0),
        (Answer(501), "OK (responds, HTTP 501)", 0),
        (Answer(404), "WARNING: HTTP 404.", 0),
        (Answer(500), "WARNING: HTTP 500.", 0),
        (Answer(503), "ERROR: HTTP 503.", 1),
        (Answer(cut=-1), "ERROR: no response", 1),
        (Answer(silent=True), "ERROR: no response (timeout)", 1),
        (Answer(head_drip=0.05), "ERROR: no response (timeout)", 1),
    ],
)
def test_an_endpoint_is_alive_if_it_answers(line, scripted, configure, answer, told, failed):
    configure(HTTP_TIMEOUT=0.5 if "timeout" in told else 50)
    for path in ("/authorize", "/revoke", "/token"):
        scripted.on(path, Answer(405))
    scripted.on("/token", answer)
    text, status = line(TOKEN, "--online")
    assert text.startswith(told)
    assert status == failed


def test_nothing_is_asked_without_online(command, scripted):
    command("oauth_doctor")
    assert scripted.requests == []


def test_an_endpoint_is_asked_with_a_bare_get_and_redirects_are_not_followed(command, scripted):
    scripted.on("/token", Answer(302, headers={"Location": "/elsewhere"}))
    command("oauth_doctor", "--online")
    assert {request.path for request in scripted.requests} == {"/authorize", "/revoke", "/token"}
    for request in scripted.requests:
        assert (request.method, request.query, request.body) == ("GET", {}, b"")
        assert "Authorization" not in request.headers


def test_an_entry_for_machine_tokens_has_no_redirect_uri_and_no_page_to_ask(
    command, configure, scripted, scripted_entry
):
    scripted.on("/token", Answer(200))
    scripted.on("/revoke", Answer(200))
    configure(PROVIDERS={"scripted": {**scripted_entry, "grant_types": ["client_credentials"]}})
    text = command("oauth_doctor", "--online").out
    assert "Redirect URI of scripted" not in text
    assert "scripted.token_endpoint" in text
    assert scripted.asked("/authorize") == []


def test_a_server_that_is_not_reachable_is_an_error(line, configure, scripted_entry):
    with socket.socket() as bound:  # to a port at which it does not listen, and nothing else can
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/token"
        configure(PROVIDERS={"scripted": {**scripted_entry, "token_endpoint": url}})
        text, status = line(TOKEN, "--online")
    assert text.startswith("ERROR: no response (connection_refused).")
    assert "refused the connection" in text
    assert status == 1


def test_providers_that_are_off_or_differ_by_user_are_not_asked(command, configure, scripted, scripted_entry):
    shop = {
        **scripted_entry,
        "token_endpoint": "https://{shop}.example/token",
        "variables": {"shop": {"pattern": "[a-z]+"}},
    }
    configure(PROVIDERS={"off": {**scripted_entry, "enabled": False}, "shop": shop})
    run = command("oauth_doctor", "--online")
    assert "Endpoints of shop: OK (not checked: they differ by shop)" in run.out
    assert scripted.requests == []


# --- processes ------------------------------------------------------------------------------------


def test_the_exit_status_of_a_process(process, configure):
    assert process("oauth_doctor").status == 0
    configure(KEYS=[])
    run = process("oauth_doctor", "--json")
    assert run.status == 1
    assert run.document["ok"] is False


def test_check_opens_a_sealed_row_when_the_database_is_named(process, configure, make_connection):
    make_connection()
    configure(KEYS=[OTHER_KEY])
    assert process("check").status == 0
    run = process("check", "--database", "default")
    assert run.status == 1
    assert "oauth_connect.E014" in run.err


# --- presets ------------------------------------------------------------------------------------

DOUBTFUL: dict[str, Any] = {
    "authorization_endpoint": "https://id.example/authorize",
    "token_endpoint": "https://id.example/token",
    "about": {"category": "forms", "sources": ["a page"], "read": "2020-05-05", "known_by": "secondary"},
}


def preset_lines(command, configure, about: dict[str, Any]) -> list[str]:
    preset = {**DOUBTFUL, "about": {**DOUBTFUL["about"], **about}}
    configure(PROVIDERS={"own": {"preset": preset, "client_id": "c", "client_secret": "s"}})
    return [line for line in command("oauth_doctor").lines if line.startswith("Preset of own")]


def in_days(number: int) -> str:
    return (datetime.now(UTC) + timedelta(days=number)).date().isoformat()


@pytest.mark.parametrize(
    ("about", "text"),
    [
        ({}, ""),
        ({"confidence": "low"}, "few or indirect sources"),
        ({"unverified": ["revocation_endpoint"]}, "not verified: revocation_endpoint."),
    ],
)
def test_a_preset_that_is_not_verified_is_a_warning(command, configure, about, text):
    found = preset_lines(command, configure, about)
    assert bool(found) is bool(text)
    assert all("WARNING" in line and text in line and "oauth_providers own" in line for line in found)


@pytest.mark.parametrize("about", [{"read": "lately"}, {"changes": 5}, {"colour": "red"}])
def test_what_a_preset_says_wrongly_about_its_provider_is_a_warning(command, configure, about):
    (found,) = preset_lines(command, configure, about)
    assert f"WARNING: preset.about.{next(iter(about))}" in found


@pytest.mark.parametrize(
    ("on", "is_reported"),
    [
        (in_days(1), True),
        (in_days(170), True),
        (in_days(200), False),
        ("2020-05-06", True),  # the data is older
        ("2020-05-05", False),
        ("2020-04", False),
    ],
)
def test_a_change_is_announced_before_it_comes(command, configure, on, is_reported):
    found = preset_lines(command, configure, {"changes": [{"on": on, "what": "Version 1 ends."}]})
    assert bool(found) is is_reported
    assert all(f"WARNING: from {on}: Version 1 ends." in line for line in found)
