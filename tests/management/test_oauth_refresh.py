"""oauth_refresh: what is due is refreshed, once, and one bad row stops nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import InterfaceError, OperationalError

from oauth_connect.jobs.refresh import due as due_module
from oauth_connect.jobs.refresh import outcomes, worker_pool
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.run import SequentialRun
from oauth_connect.management import output
from oauth_connect.management.commands import oauth_refresh
from oauth_connect.models import Connection
from oauth_connect.stores.batch import Saves
from oauth_connect.stores.row import RowStore
from tests.management.conftest import finished
from tests.servers.scripted import Answer
from tests.support.aging import long_back_offs
from tests.support.threads import meanwhile
from tests.support.tokens import EXPIRED, FRESH, rows, stored
from tests.support.waiting import TIMEOUT, eventually, tally_of

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

pytestmark = pytest.mark.django_db(transaction=True)

NONE = dict.fromkeys(outcomes.OUTCOMES, 0)


@pytest.fixture(autouse=True)
def provider(scripted_provider: Any, scripted: Any) -> None:
    scripted.on("/token", Answer(body=FRESH))


# --- what is due ----------------------------------------------------------------------------------


def test_what_is_due_is_refreshed_and_nothing_else(command, scripted, make_connection, signals_heard):
    due, valid = make_connection(age=EXPIRED), make_connection()
    run = command("oauth_refresh")
    assert run.status == 0
    assert stored(due).token.access_token == "access-1"
    assert stored(valid).token.access_token == "access-0"
    assert len(scripted.asked("/token")) == 1
    assert signals_heard == ["refreshed"]
    assert run.lines[:2] == ["provider  outcome    connections", "scripted  refreshed            1"]
    assert run.lines[2].endswith("0 failed.")


def test_a_token_that_is_still_valid_is_refreshed_once_it_is_due(command, make_connection):
    """refresh_at lies before the leeway, by some jitter: due, and the engine would still serve it."""
    connection = make_connection(age=3000)
    rows().filter(pk=connection.pk).update(refresh_at=datetime.now(UTC))
    command("oauth_refresh")
    assert stored(connection).version == 1


def test_within_looks_ahead_and_a_short_new_token_does_not_come_twice(command, scripted, make_connection):
    scripted.on("/token", Answer(body={**FRESH, "expires_in": 300}))
    connection = make_connection(age=3000)
    assert command("oauth_refresh", json=True).document["total"] == 0
    assert command("oauth_refresh", "--within", "3600", json=True).document["total"] == 1
    assert stored(connection).version == 1


def test_within_skips_a_connection_in_back_off(command, scripted, make_connection):
    scripted.on("/token", Answer(503, headers={"Retry-After": "600"}))
    make_connection(age=EXPIRED)
    assert command("oauth_refresh").status == 1
    assert command("oauth_refresh", "--within", "3600").status == 0
    assert len(scripted.asked("/token")) == 1


def test_a_provider_by_name(command, configure, scripted_entry, make_connection):
    configure(PROVIDERS={"scripted": scripted_entry, "b": scripted_entry, "c": scripted_entry})
    a, b, c = (make_connection(slug, age=EXPIRED) for slug in ("scripted", "b", "c"))
    run = command("oauth_refresh", provider=["b", "c"], json=True)
    assert run.document["providers"] == {slug: {**NONE, "refreshed": 1} for slug in ("b", "c")}
    assert [stored(one).version for one in (a, b, c)] == [0, 1, 1]


def test_limit_takes_the_providers_in_turn_and_the_longest_due_first(
    command, configure, scripted_entry, make_connection
):
    configure(PROVIDERS={"scripted": scripted_entry, "b": scripted_entry})
    late, later = make_connection(age=EXPIRED), make_connection(age=EXPIRED * 2)
    other = make_connection("b", age=EXPIRED)
    assert command("oauth_refresh", "--limit", "2", json=True).document["total"] == 2
    assert [stored(one).version for one in (late, later, other)] == [0, 1, 1]


@pytest.mark.parametrize("workers", [1, 3, 64])
def test_claim_after_claim(command, make_connection, workers):
    """Several of the very same refresh_at too."""
    for _ in range(7):
        make_connection(age=EXPIRED)
    rows().update(refresh_at=datetime.now(UTC) - timedelta(hours=1))
    run = command("oauth_refresh", workers=workers, json=True)
    assert run.document["providers"]["scripted"] == {**NONE, "refreshed": 7}


def test_a_chunk_at_a_time_is_read(monkeypatch, make_connection, django_assert_num_queries):
    monkeypatch.setattr(due_module, "CHUNK", 2)
    for _ in range(5):
        make_connection(age=EXPIRED)
    due = due_module.Due()
    with django_assert_num_queries(1):
        walk = due.connections("scripted")
        next(walk)
        next(walk)


def test_a_dry_run_sends_nothing(command, configure, scripted, scripted_entry, make_connection):
    configure(PROVIDERS={"scripted": scripted_entry, "off": scripted_entry})
    for _ in range(3):
        make_connection(age=EXPIRED)
    make_connection("off", age=EXPIRED)
    configure(PROVIDERS={"scripted": scripted_entry, "off": {**scripted_entry, "enabled": False}})
    run = command("oauth_refresh", "--dry-run", json=True)
    assert run.document == {
        "dry_run": True,
        "total": 3,
        "due": {"scripted": 3},
        "skipped": {"off": {"reason": "provider_disabled", "due": 1}},
    }
    assert command("oauth_refresh", "--dry-run", "--limit", "2", json=True).document["total"] == 2
    lines = command("oauth_refresh", "--dry-run").lines
    assert lines == [
        "provider  would be refreshed",
        "scripted                   3",
        "off: disabled in the settings; 1 due, skipped.",
        "3 connections would be refreshed. Nothing was sent.",
    ]
    assert scripted.requests == []


# --- bad rows -------------------------------------------------------------------------------------

FAILURES = {
    "unavailable": Answer(503),
    "misconfigured": Answer(401, {"error": "invalid_client"}),
    "reauthorization_required": Answer(400, {"error": "invalid_grant"}),
    "failed": Answer(400, {"error": "invalid_scope"}),
}


@pytest.mark.parametrize(("outcome", "answer"), FAILURES.items())
def test_one_bad_row_stops_nothing_and_is_reported(
    command, scripted, make_connection, monkeypatch, outcome, answer
):
    long_back_offs(monkeypatch)
    scripted.on("/token", answer, Answer(body=FRESH))
    bad, good = make_connection(age=EXPIRED * 2), make_connection(age=EXPIRED)
    run = command("oauth_refresh", workers=1, json=True)
    assert run.status == 1
    assert run.document["failed"] == 1
    assert run.document["providers"]["scripted"] == {**NONE, "refreshed": 1, outcome: 1}
    assert stored(good).version == 1
    assert Connection.objects.due().count() == 0, "it does not head the queue"
    assert stored(bad).version == 0


def broken_ciphertext(connection, **_):
    rows().filter(pk=connection.pk).update(sealed_token=rows().exclude(pk=connection.pk)[0].sealed_token)


def another_client(connection, **_):
    rows().filter(pk=connection.pk).update(client_id="another app")


def deactivated(connection, **_):
    connection.user.is_active = False
    connection.user.save()


@pytest.mark.parametrize(
    ("spoil", "outcome", "code", "status"),
    [
        (broken_ciphertext, "failed", "key_unavailable", 1),
        (another_client, "reauthorization_required", "client_changed", 1),
        (deactivated, "not_needed", "owner_inactive", 0),
    ],
)
def test_a_row_with_which_nothing_can_begin_is_put_off_and_not_touched_otherwise(
    command, make_connection, other_user, spoil, outcome, code, status
):
    bad = make_connection(age=EXPIRED * 2)
    good = make_connection(age=EXPIRED, owner=other_user)
    spoil(bad)
    before = stored(bad)
    run = command("oauth_refresh", "--within", "3600", verbosity=2)
    assert run.status == status
    assert f"scripted {bad.pk}: {outcome.replace('_', ' ')} ({code})" in run.out
    after = stored(bad)
    assert after.refresh_at > datetime.now(UTC) + timedelta(seconds=3600)
    kept = ("sealed_token", "version", "status", "failures", "last_error", "lease_owner", "in_doubt")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    assert stored(good).version == 1


def test_an_unexpected_error_stops_nothing(command, configure, scripted_entry, make_connection, caplog):
    def registry(*_: object) -> None:
        raise RuntimeError("the vault is shut")

    make_connection(age=EXPIRED)
    configure(PROVIDERS={"scripted": scripted_entry, "b": scripted_entry})
    make_connection("b", age=EXPIRED)
    broken = {**scripted_entry, "hooks": {"register_client": registry}}
    configure(PROVIDERS={"scripted": scripted_entry, "b": broken})
    run = command("oauth_refresh", json=True)
    assert run.status == 1
    assert run.document["providers"]["b"] == {**NONE, "failed": 1}
    assert run.document["providers"]["scripted"] == {**NONE, "refreshed": 1}
    assert "vault" not in run.out + run.err
    assert "refresh_crashed" in {getattr(record, "action", "") for record in caplog.records}


def test_a_secret_that_is_unavailable_now_makes_its_provider_unavailable(
    command, configure, scripted, scripted_entry, make_connection
):
    def vault() -> str:
        raise RuntimeError("the vault is shut")

    configure(PROVIDERS={"scripted": {**scripted_entry, "client_secret": vault}})
    connection = make_connection(age=EXPIRED)
    run = command("oauth_refresh", json=True)
    assert run.document["providers"]["scripted"] == {**NONE, "unavailable": 1}
    assert "vault" not in run.out + run.err
    assert scripted.requests == []
    after = stored(connection)
    assert (after.lease_owner, after.in_doubt, after.failures) == ("", False, 1)


def test_a_connection_that_another_process_refreshes_is_not_waited_for(command, make_connection, monkeypatch):
    connection = make_connection(age=EXPIRED)
    later = int((time.time() + 600) * 1000)
    rows().filter(pk=connection.pk).update(lease_owner="another machine", lease_until=later)
    looks = tally_of(monkeypatch, RowStore, "peek")  # who waits, looks again and again
    run = command("oauth_refresh", json=True)
    assert looks.count == 0
    assert run.document["total"] == 0
    assert run.status == 0


def test_a_connection_that_was_refreshed_since_it_was_read_is_let_be(scripted, make_connection):
    make_connection(age=EXPIRED * 2)
    connection = make_connection(age=EXPIRED)
    results = iter(SequentialRun(Due()))
    assert next(results).outcome == "refreshed"
    connection.refresh()
    assert next(results).outcome == "not_needed"
    assert len(scripted.asked("/token")) == 2


def test_nothing_is_asked_of_a_connection_that_was_disconnected_meanwhile(scripted, make_connection):
    make_connection(age=EXPIRED * 2)
    connection = make_connection(age=EXPIRED)
    results = iter(SequentialRun(Due()))
    assert next(results).outcome == "refreshed"
    rows().filter(pk=connection.pk).delete()
    assert next(results).outcome == "not_needed"
    assert len(scripted.asked("/token")) == 1


# --- settings -------------------------------------------------------------------------------------


def test_providers_that_are_gone_or_off_are_reported_and_skipped(
    command, configure, scripted, scripted_entry, make_connection
):
    configure(PROVIDERS=dict.fromkeys(("gone", "off", "scripted"), scripted_entry))
    for slug in ("gone", "off", "scripted"):
        make_connection(slug, age=EXPIRED)
    configure(PROVIDERS={"scripted": scripted_entry, "off": {**scripted_entry, "enabled": False}})
    run = command("oauth_refresh", json=True)
    assert run.status == 0
    assert run.document["skipped"] == {
        "gone": {"reason": "provider_missing", "due": 1},
        "off": {"reason": "provider_disabled", "due": 1},
    }
    assert run.document["providers"]["gone"] == {**NONE, "skipped": 1}
    assert 'gone: not in OAUTH_CONNECT["PROVIDERS"]; 1 due' in command("oauth_refresh").out
    assert len(scripted.asked("/token")) == 1


def test_a_provider_whose_entry_is_wrong_fails_and_the_others_go_on(
    command, configure, scripted_entry, make_connection
):
    configure(PROVIDERS={"scripted": scripted_entry, "wrong": scripted_entry})
    wrong, good = make_connection("wrong", age=EXPIRED), make_connection(age=EXPIRED)
    configure(PROVIDERS={"scripted": scripted_entry, "wrong": {**scripted_entry, "token_endpoint": ""}})
    run = command("oauth_refresh", json=True)
    assert run.status == 1
    assert run.document["providers"]["wrong"] == {**NONE, "misconfigured": 1}
    assert stored(good).version == 1
    assert stored(wrong).refresh_at == wrong.refresh_at, "due at once when the entry is mended"


def test_providers_that_a_loader_knows_are_refreshed(command, configure, scripted_entry, make_connection):
    known = {"tenant", "gone"}
    configure(
        PROVIDERS={},
        PROVIDER_LOADER=lambda slug, owner: scripted_entry if slug in known else None,
        DISCOVERY_PRIVATE_HOSTS=["127.0.0.1"],
    )
    connection, _ = make_connection("tenant", age=EXPIRED), make_connection("gone", age=EXPIRED)
    known.remove("gone")
    run = command("oauth_refresh", json=True)
    assert run.status == 0
    assert run.document["providers"] == {
        "tenant": {**NONE, "refreshed": 1},
        "gone": {**NONE, "skipped": 1},
    }
    assert stored(connection).version == 1


@pytest.mark.parametrize("wrong", [{"KEYS": None}, {"PROVIDERS": 5}, {"REFRESH_LEEWAY": "soon"}])
def test_settings_that_nothing_can_work_with_end_it_with_2(command, configure, make_connection, wrong):
    make_connection(age=EXPIRED)
    configure(**wrong)
    run = command("oauth_refresh", json=True)
    assert run.status == 2
    assert run.document.keys() == {"error"}
    assert next(iter(wrong)) in run.err


def test_an_unknown_provider_is_a_wrong_option(command, process):
    assert command("oauth_refresh", provider=["gibhub"]).status == 2
    run = process("oauth_refresh", "--provider", "gibhub", "--json")
    assert run.status == 2
    assert "scripted" in run.document["error"]


def test_a_database_without_tables_ends_it_with_2(command, monkeypatch):
    monkeypatch.setattr(Connection._meta, "db_table", "not_there_yet")
    run = command("oauth_refresh")
    assert run.status == 2
    assert "migrate" in run.err


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
@pytest.mark.parametrize(
    ("where", "what", "status"), [(worker_pool, "claim_due", 1), (oauth_refresh, "idle", 2)]
)
def test_a_lost_database_connection_is_reported(
    command, make_connection, monkeypatch, error, where, what, status
):
    def lose(*_: Any, **__: Any) -> None:
        raise error("secret words")

    make_connection(age=EXPIRED)
    monkeypatch.setattr(where, what, lose)
    run = command("oauth_refresh")
    assert run.status == status
    assert f"reports an error ({error.__name__})" in run.err
    assert "secret" not in run.err


# --- what is said ---------------------------------------------------------------------------------


def test_verbosity_0_is_silent_and_2_names_each_connection(command, make_connection):
    connection = make_connection(age=EXPIRED)
    assert f"scripted {connection.pk}: refreshed" in command("oauth_refresh", verbosity=2).out
    make_connection(age=EXPIRED)
    assert command("oauth_refresh", verbosity=0).out == ""


@pytest.mark.compliance("D45")
@pytest.mark.parametrize("options", [{"verbosity": 3}, {"json": True}])
def test_neither_tokens_nor_a_providers_words_are_shown(command, scripted, make_connection, options):
    words = {"error": "refresh_token refresh-0 is spent", "error_description": "canary"}
    scripted.on("/token", Answer(400, words), Answer(503, b"canary"), Answer(body=FRESH))
    for _ in range(3):
        make_connection(age=EXPIRED)
    run = command("oauth_refresh", **options)
    for secret in ("refresh-0", "access-0", "access-1", "refresh-1", "canary", "spent", "secret"):
        assert secret not in run.out + run.err


def test_json_is_one_document_whatever_happens(process, scripted, make_connection):
    scripted.on("/token", Answer(503))
    make_connection(age=EXPIRED)
    run = process("oauth_refresh", "--json", "--verbosity", "3")
    assert run.status == 1
    assert set(run.document) == {
        *("dry_run", "total", "failed", "stopped", "seconds", "providers", "skipped", "error")
    }
    assert "1 of 1 connections" in run.err


# --- processes ------------------------------------------------------------------------------------


@pytest.mark.compliance("D30")
def test_several_commands_in_parallel_refresh_each_connection_once(codeyard, make_connection, start):
    connections = [
        make_connection("codeyard", age=3600, response=codeyard.grant(name)) for name in ("ada", "linus") * 6
    ]
    codeyard.expire()
    runs = [finished(one) for one in [start("oauth_refresh", "--json") for _ in range(3)]]

    assert [run.status for run in runs] == [0, 0, 0]
    told = [run.document["providers"].get("codeyard", NONE) for run in runs]
    assert sum(one["refreshed"] for one in told) == len(connections)
    assert codeyard.refreshes == codeyard.stats["rotations"] == len(connections)
    assert codeyard.stats["reuse_seen"] == 0
    assert {stored(one).version for one in connections} == {1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_it_finish_what_is_in_flight(scripted, make_connection, start, configure, number):
    """The provider answers once the run has freed what it had claimed and not sent."""
    configure(HTTP_TIMEOUT=50)
    hold = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=hold))
    due = [make_connection(age=EXPIRED) for _ in range(3)]
    running = start("oauth_refresh", "--json", "--workers", "1")
    try:
        scripted.wait_for("/token")
        running.send_signal(number)
        eventually(lambda: Connection.objects.exclude(lease_owner="").count() == 1, "two freed")
    finally:
        hold.set()
        run = finished(running)

    assert run.status == 0, run.err
    assert run.document["stopped"]
    assert run.document["total"] == 1
    assert sorted(row.version for row in Connection.objects.all()) == [0, 0, 1]
    assert not Connection.objects.exclude(lease_owner="").exists()
    before = {row.pk: row.refresh_at for row in due}
    assert all(row.refresh_at == before[row.pk] for row in Connection.objects.filter(version=0))


def test_a_signal_before_the_run_starts_ends_it_too(command, scripted, make_connection, monkeypatch):
    make_connection(age=EXPIRED)
    look = oauth_refresh.idle

    def asked_meanwhile(due: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return look(due)

    monkeypatch.setattr(oauth_refresh, "idle", asked_meanwhile)
    run = command("oauth_refresh", json=True)
    assert (run.status, run.document["stopped"], run.document["total"]) == (0, True, 0)
    assert scripted.asked("/token") == []


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="Windows has no signals for threads")
def test_ctrl_c_again_and_again_waits_for_what_is_in_flight(
    command, ctrl_c, scripted, make_connection, monkeypatch
):
    """Even where the database is away when the answer comes."""
    hold = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=hold))
    connection = make_connection(age=EXPIRED)
    save = Saves.run

    def failing(*_: Any) -> bool:
        monkeypatch.setattr(Saves, "run", save)
        raise OperationalError("server closed the connection unexpectedly")

    def interrupt() -> None:
        scripted.wait_for("/token")
        for _ in range(4):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.2)
        hold.set()

    monkeypatch.setattr(Saves, "run", failing)
    with meanwhile(interrupt), pytest.raises(KeyboardInterrupt):
        command("oauth_refresh", "--workers", "2")
    row = stored(connection)
    assert (row.version, row.token.refresh_token, row.lease_owner) == (1, "refresh-1", "")


# --- a long-lived worker --------------------------------------------------------------------------


def test_a_loop_repeats_its_pass_until_it_is_asked_to_stop(make_connection, start):
    first = make_connection(age=EXPIRED)
    running = start("oauth_refresh", "--loop", "1", "--json")
    eventually(lambda: stored(first).version == 1, "the first refreshed")
    second = make_connection(age=EXPIRED)
    eventually(lambda: stored(second).version == 1, "the second refreshed")
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=TIMEOUT)

    assert running.returncode == 0, err
    passes = [json.loads(line) for line in out.splitlines()]
    assert [one["total"] for one in passes] == [1, 1]


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_a_loop_continues_after_a_database_error(command, make_connection, monkeypatch, error):
    connection = make_connection(age=EXPIRED)
    work, passes = oauth_refresh.refresh_due, []

    def fail_once(*arguments: Any, **options: Any) -> Any:
        passes.append(1)
        if len(passes) == 1:
            raise error("the database was restarted; secret words")
        if len(passes) == 3:
            signal.raise_signal(signal.SIGTERM)
        return work(*arguments, **options)

    monkeypatch.setattr(oauth_refresh, "refresh_due", fail_once)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        run = command("oauth_refresh", "--loop", "1")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert run.status == 0
    assert "reports an error" in run.err
    assert error.__name__ in run.err
    assert "secret" not in run.err
    assert stored(connection).version == 1


def test_a_worker_killed_in_the_middle_loses_nothing_it_had_not_sent(
    rotating, many, start, command, make_connection, configure
):
    configure(HTTP_TIMEOUT=300)  # so that its leases last for minutes
    due = many(12)
    rotating.hang("row3-0", "row7-0")
    running = start("oauth_refresh", "--workers", "3")
    eventually(lambda: len(rotating.hanging) == 2 and len(rotating.spent) == 10, "two asked in vain")
    eventually(lambda: Connection.objects.filter(version=1).count() == 10, "the others saved")
    running.kill()
    running.communicate(timeout=TIMEOUT)

    assert Connection.objects.exclude(lease_owner="").count() == 2
    assert command("oauth_refresh", json=True).document["total"] == 0, "their leases have not run out"
    rotating.hang()
    rows().exclude(lease_owner="").update(lease_until=1, refresh_at=datetime.now(UTC) - timedelta(minutes=1))
    assert command("oauth_refresh", json=True).document["providers"]["rotating"]["refreshed"] == 2
    assert rotating.spent == {f"row{number}-0": 1 for number in range(12)}
    assert all(not stored(row).in_doubt and stored(row).version == 1 for row in due)


def test_only_a_users_own(command, make_connection, user, other_user):
    hers, others = make_connection(age=EXPIRED), make_connection(age=EXPIRED, owner=other_user)
    assert command("oauth_refresh", "--user", user.username, json=True).document["total"] == 1
    assert (stored(hers).version, stored(others).version) == (1, 0)
    run = command("oauth_refresh", "--user", "nobody")
    assert run.status == 2
    assert "There is no user 'nobody'" in run.err


@pytest.mark.parametrize(
    ("option", "number", "span"),
    [
        ("--workers", "0", "1 to 512"),
        ("--workers", "1000", "1 to 512"),
        ("--loop", "0", "1 to 31622400"),
        ("--limit", "0", "1 or more"),
    ],
)
def test_numbers_out_of_range_are_wrong_options(command, option, number, span):
    assert f"{number} is out of range ({span})" in command("oauth_refresh", option, number).err


def test_a_dry_run_in_a_loop_makes_no_sense(command):
    assert command("oauth_refresh", "--dry-run", "--loop", "5").status == 2


def on_a_terminal(start: Any, *arguments: str) -> str:
    """Run a command whose standard error is a terminal; return what that shows."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = start(*arguments, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # Linux says so when the last writer has gone
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    process.communicate(timeout=TIMEOUT)
    return shown.decode()


@pytest.mark.skipif(termios is None, reason="no terminals here")
def test_a_terminal_shows_a_bar_and_nothing_else_does(make_connection, start, process):
    make_connection(age=EXPIRED)
    assert "0/1 [" in on_a_terminal(start, "oauth_refresh")
    make_connection(age=EXPIRED)
    assert on_a_terminal(start, "oauth_refresh", "--json") == ""
    make_connection(age=EXPIRED)
    assert process("oauth_refresh").err == ""


def test_without_tqdm_there_are_lines(make_connection, monkeypatch, capsys):
    monkeypatch.setattr(output, "tqdm", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    make_connection(age=EXPIRED)
    call_command("oauth_refresh")
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "refreshed            1" in shown.out
