"""``oauth_prune``: what is old goes, in batches, and what waits for its revocation is revoked."""

from __future__ import annotations

import signal
import threading
from datetime import timedelta

import pytest
from django.db import connections
from django.utils import timezone

from oauth_connect.jobs import prune
from oauth_connect.jobs.revoke import OUTCOMES
from oauth_connect.models import Connection, ConnectionEvent, ConsumedState, PendingRevocation
from oauth_connect.models.lifecycle import history
from oauth_connect.stores import batched_delete
from tests.accounts.models import Note
from tests.management.conftest import OTHER_KEY, finished
from tests.servers.scripted import Answer

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]
NONE = dict.fromkeys(OUTCOMES, 0)


@pytest.fixture
def aged(make_connection):
    """Write history that is so many days old."""
    connection = make_connection()
    ConnectionEvent.objects.all().delete()

    def write(days: float, number: int = 1) -> None:
        last = ConnectionEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        history.write([history.of(connection, history.Action.KEY_ROTATED) for _ in range(number)])
        moment = timezone.now() - timedelta(days=days)
        ConnectionEvent._base_manager.filter(pk__gt=last).update(created_at=moment)

    return write


def use_state(state: str, hours_ago: float) -> None:
    assert ConsumedState.objects.consume(state, timezone.now() - timedelta(hours=hours_ago))


def ages() -> list[int]:
    moments = ConnectionEvent.objects.values_list("created_at", flat=True)
    return sorted((timezone.now() - moment).days for moment in moments)


def test_what_is_older_than_the_setting_goes(command, configure, aged):
    configure(HISTORY_DAYS=30)
    aged(31, 2)
    aged(29, 3)
    run = command("oauth_prune")
    assert run.lines[:4] == [
        "what                 deleted",
        "history                    2",
        "consumed states            0",
        "revoked connections        0",
    ]
    assert run.status == 0
    assert ages() == [29, 29, 29]


def test_an_option_says_otherwise(command, configure, aged):
    configure(HISTORY_DAYS=None)
    aged(400)
    aged(20)
    assert command("oauth_prune", "--json").document["removed"] == {
        "consumed_states": 0,
        "revoked_connections": 0,
        "kept_tokens": 0,
    }
    assert ages() == [20, 400], "None keeps it for ever"
    run = command("oauth_prune", "--json", "--history-days", "30")
    assert run.document["removed"] == {
        "history": 1,
        "consumed_states": 0,
        "revoked_connections": 0,
        "kept_tokens": 0,
    }
    assert ages() == [20]


def test_where_no_history_is_kept_all_of_it_goes(command, configure, aged):
    aged(0, 2)
    configure(HISTORY_DAYS=0)
    assert command("oauth_prune", "--json").document["removed"]["history"] == 2


@pytest.mark.compliance("D3")
def test_a_state_goes_once_no_machine_takes_it_any_more(command):
    use_state("old", hours_ago=2)
    use_state("expired here, and not by a slow clock", hours_ago=0.5)
    use_state("living", hours_ago=-0.1)
    assert command("oauth_prune", "--json").document["removed"]["consumed_states"] == 1
    assert not ConsumedState.objects.consume("living", timezone.now())
    assert not ConsumedState.objects.consume("expired here, and not by a slow clock", timezone.now())


def test_a_dry_run_removes_nothing(command, aged):
    aged(400, 3)
    use_state("old", hours_ago=2)
    run = command("oauth_prune", "--dry-run")
    assert run.lines[1:] == [
        "history                             3",
        "consumed states                     1",
        "revoked connections                 0",
        "kept tokens                         0",
        "0 revocations would be tried.",
        "Nothing was deleted.",
    ]
    document = command("oauth_prune", "--dry-run", "--json").document
    old = {"history": 3, "consumed_states": 1, "revoked_connections": 0, "kept_tokens": 0}
    assert document == {"dry_run": True, "old": old, "revocations": 0}
    assert (len(ages()), ConsumedState.objects.count()) == (3, 1)


def test_no_statement_removes_more_than_a_batch(command, aged, monkeypatch, django_assert_max_num_queries):
    monkeypatch.setattr(batched_delete, "BATCH", 10)
    aged(400, 35)
    with django_assert_max_num_queries(100) as asked:
        run = command("oauth_prune", "--verbosity", "2")
    told = [line for line in run.lines if line.startswith("history: ")]
    assert told == [f"history: {count}" for count in (10, 20, 30, 35)]
    deletes = [query["sql"] for query in asked.captured_queries if query["sql"].startswith("DELETE")]
    assert len(deletes) == 4


@pytest.mark.django_db(transaction=True)
def test_several_processes_in_parallel_remove_each_row_once(start, aged):
    aged(400, 1500)
    aged(1, 5)
    runs = [start("oauth_prune", "--json") for _ in range(3)]
    done = [finished(run) for run in runs]
    assert [run.status for run in done] == [0, 0, 0], [run.err for run in done]
    assert sum(run.document["removed"]["history"] for run in done) == 1500
    assert ages() == [1] * 5


@pytest.mark.django_db(transaction=True)
def test_a_table_that_is_not_there_ends_with_1_and_says_what_to_do(command):
    with connections["default"].schema_editor() as editor:
        editor.alter_db_table(ConsumedState, "oauth_connect_consumedstate", "put_aside")
    try:
        run = command("oauth_prune", "--json")
        told = command("oauth_prune")
    finally:
        with connections["default"].schema_editor() as editor:
            editor.alter_db_table(ConsumedState, "put_aside", "oauth_connect_consumedstate")
    assert run.status == 1
    assert "Run migrate" in run.document["error"]
    assert (told.status, told.out) == (1, ""), "no table of zeros"
    assert "Run migrate" in told.err


@pytest.mark.django_db(transaction=True)
def test_what_was_removed_before_a_table_was_missing_is_reported(command, aged):
    aged(400, 3)
    with connections["default"].schema_editor() as editor:
        editor.alter_db_table(ConsumedState, "oauth_connect_consumedstate", "put_aside")
    try:
        run = command("oauth_prune")
    finally:
        with connections["default"].schema_editor() as editor:
            editor.alter_db_table(ConsumedState, "put_aside", "oauth_connect_consumedstate")
    assert run.status == 1
    assert run.lines[1] == "history                    3"


@pytest.mark.parametrize(
    "arguments", ["--history-days -1", "--history-days x", "--history-days 99999999", "--revoked-after -1"]
)
def test_a_wrong_option_ends_with_2(process, arguments):
    assert process("oauth_prune", *arguments.split()).status == 2


@pytest.mark.parametrize("name", ["HISTORY_DAYS", "REVOKED_DAYS"])
@pytest.mark.parametrize("value", [-1, 1.5, True, "30", 10**9])
def test_a_wrong_setting_ends_with_2(command, configure, name, value):
    configure(**{name: value})
    run = command("oauth_prune", "--json")
    assert run.status == 2
    assert name in run.document["error"]


# --- connections that ended long ago --------------------------------------------------------------


@pytest.fixture
def ended(make_connection):
    """Make a connection that was disconnected so many days ago."""

    def make(days: float, status: str = "revoked", **options) -> Connection:
        connection = make_connection(**options)
        if status == "revoked":
            connection.disconnect()
        moment = timezone.now() - timedelta(days=days)
        Connection._base_manager.filter(pk=connection.pk).update(updated_at=moment, status=status)
        return connection

    return make


def test_connections_that_ended_long_ago_go_and_no_others(command, configure, ended):
    configure(REVOKED_DAYS=30, HISTORY_DAYS=None)
    ended(31)
    left = {ended(29).pk, ended(400, "active").pk, ended(400, "reauthorization_required").pk}
    assert command("oauth_prune", "--dry-run", "--json").document["old"]["revoked_connections"] == 1
    assert command("oauth_prune", "--json").document["removed"]["revoked_connections"] == 1
    assert {row.pk for row in Connection.objects.all()} == left


def test_the_default_is_a_year_and_none_is_for_ever(command, configure, ended):
    ended(366)
    ended(364)
    configure(REVOKED_DAYS=None)
    assert "revoked_connections" not in command("oauth_prune", "--json").document["removed"]
    configure(REVOKED_DAYS=365)
    assert command("oauth_prune", "--json").document["removed"]["revoked_connections"] == 1
    assert command("oauth_prune", "--json", "--revoked-after", "0").document["removed"] == {
        "history": 0,
        "consumed_states": 0,
        "revoked_connections": 1,
        "kept_tokens": 0,
    }


def test_a_connection_to_which_a_row_of_the_sites_points_stays(command, ended):
    noted, free = ended(400), ended(400)
    note = Note.objects.create(connection=noted, text="the site's own")
    assert command("oauth_prune", "--json").document["removed"]["revoked_connections"] == 1
    assert Connection.objects.get().pk == noted.pk
    assert Note.objects.get() == note
    assert not Connection.objects.filter(pk=free.pk).exists()


def test_connections_go_in_batches_too(command, ended, monkeypatch):
    monkeypatch.setattr(batched_delete, "BATCH", 3)
    for _ in range(7):
        ended(400)
    run = command("oauth_prune", "--verbosity", "2")
    told = [line for line in run.lines if line.startswith("revoked connections: ")]
    assert told == [f"revoked connections: {count}" for count in (3, 6, 7)]
    assert not Connection.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_what_is_connected_again_while_it_is_pruned_stays(ended, user, monkeypatch):
    """Between reading the batch and deleting it nobody gets in; before that, the conditions are looked at."""
    connection = ended(400, account_id="ada")
    rows = prune.DisconnectedConnections(timezone.now())._rows()
    again = {"access_token": "a", "refresh_token": "again", "token_type": "Bearer"}
    Connection.objects.store(owner=user, provider="scripted", token_response=again, account_id="ada")
    assert list(batched_delete.by_key(rows)) == []
    assert Connection.objects.get(pk=connection.pk).token.refresh_token == "again"


# --- revocations ----------------------------------------------------------------------------------


@pytest.fixture
def pending(make_connection):
    """Put so many tokens aside, as if their rows had been deleted; due for so many minutes."""

    def make(number: int = 1, provider: str = "scripted", minutes: float = 1) -> None:
        for _ in range(number):
            one = PendingRevocation.of(connection := make_connection(provider))
            one.seal(connection.token)
            one.next_attempt_at = timezone.now() - timedelta(minutes=minutes)
            one.save()
            Connection._base_manager.filter(pk=connection.pk).update(status="revoked", sealed_token=None)

    return make


@pytest.mark.compliance("D50", "A34")
def test_what_waits_is_revoked(command, pending, scripted):
    scripted.on("/revoke", Answer(200))
    pending(3)
    assert command("oauth_prune", "--dry-run", "--json").document["revocations"] == 3
    run = command("oauth_prune", "--json")
    assert run.status == 0
    assert run.document["revocations"] == {"scripted": {**NONE, "revoked": 3}}
    assert len(scripted.asked("/revoke")) == 3
    assert not PendingRevocation.objects.exists()


@pytest.mark.compliance("D50", "A34")
def test_what_the_provider_does_not_take_is_kept_sealed_and_tried_later_each_time(command, pending, scripted):
    scripted.on("/revoke", Answer(503))
    pending()
    waits = []
    for number in range(1, 12):
        run = command("oauth_prune", "--json")
        assert (run.status, run.document["revocations"]["scripted"]["unavailable"]) == (1, 1)
        row = PendingRevocation.objects.get()
        assert (row.attempts, row.last_error) == (number, "http_503")
        assert command("oauth_prune", "--json").document["revocations"] == {}, "not before its time"
        waits.append((row.next_attempt_at - timezone.now()).total_seconds())
        PendingRevocation.objects.update(next_attempt_at=timezone.now())
    assert 200 < waits[0] <= 300
    assert 60_000 < waits[-1] <= 86_400
    assert PendingRevocation.objects.get().open().refresh_token == "refresh-0"


def test_a_provider_that_says_when_is_not_asked_before(command, pending, scripted):
    scripted.on("/revoke", Answer(429, headers={"Retry-After": "1800"}))
    pending()
    command("oauth_prune")
    wait = PendingRevocation.objects.get().next_attempt_at - timezone.now()
    assert 1700 < wait.total_seconds() <= 1800


def test_a_client_that_is_refused_is_no_reason_to_forget_a_token(command, pending, scripted):
    scripted.on("/revoke", Answer(401, {"error": "invalid_client"}), Answer(200))
    pending()
    run = command("oauth_prune", "--json")
    assert (run.status, run.document["revocations"]["scripted"]["misconfigured"]) == (1, 1)
    PendingRevocation.objects.update(next_attempt_at=timezone.now())
    assert command("oauth_prune").status == 0
    assert not PendingRevocation.objects.exists()


def test_a_401_to_the_token_itself_is_not_about_the_client(
    command, pending, configure, scripted, scripted_entry
):
    configure(PROVIDERS={"scripted": {**scripted_entry, "revocation": {"style": "bearer"}}})
    scripted.on("/revoke", Answer(401))
    pending()
    run = command("oauth_prune", "--json")
    assert (run.status, run.document["revocations"]["scripted"]["refused"]) == (0, 1)


@pytest.mark.parametrize("status", [400, 401])
def test_a_client_without_a_secret_at_a_server_that_wants_one_ends_the_tries(
    command, pending, configure, scripted, scripted_entry, caplog, status
):
    configure(
        PROVIDERS={"scripted": {**scripted_entry, "client_secret": "", "client_id": f"public-{status}"}}
    )
    scripted.on("/revoke", Answer(status, {"error": "invalid_client"}))
    pending(3)
    run = command("oauth_prune", "--json")
    assert (run.status, run.document["revocations"]["scripted"]["refused"]) == (0, 3)
    assert not PendingRevocation.objects.exists()
    logged = [record for record in caplog.records if getattr(record, "action", "") == "revocation_impossible"]
    assert len(logged) == 1
    assert "revocation.style" in logged[0].getMessage()


def test_a_server_without_revocation_ends_the_tries(command, pending, scripted):
    scripted.on("/revoke", Answer(501))
    pending()
    run = command("oauth_prune", "--json")
    assert (run.status, run.document["revocations"]["scripted"]["refused"]) == (0, 1)
    assert not PendingRevocation.objects.exists()


def test_a_provider_that_is_down_is_skipped_after_three_failures(
    command, pending, configure, scripted, scripted_entry
):
    other = {**scripted_entry, "revocation_endpoint": f"{scripted.url}/revoke/other"}
    configure(PROVIDERS={"scripted": scripted_entry, "other": other})
    scripted.on("/revoke", Answer(503))
    scripted.on("/revoke/other", Answer(200))
    pending(8)
    pending(2, "other", minutes=0.5)
    run = command("oauth_prune", "--json")
    assert run.document["revocations"]["scripted"]["unavailable"] == 3
    assert run.document["revocations"]["other"]["revoked"] == 2
    assert PendingRevocation.objects.filter(attempts=0).count() == 5, "the next run's"


def test_where_the_provider_has_left_the_settings_its_tokens_wait(command, pending, configure, scripted):
    pending()
    before = configure
    before(PROVIDERS={})
    run = command("oauth_prune", "--json")
    assert (run.status, run.document["revocations"]["scripted"]["skipped"]) == (0, 1)
    assert PendingRevocation.objects.get().last_error == "provider_missing"


@pytest.mark.compliance("D43")
def test_a_token_that_no_key_opens_is_not_thrown_away(command, pending, configure, scripted):
    pending()
    configure(KEYS=[OTHER_KEY])
    run = command("oauth_prune", "--json")
    assert (run.status, run.document["revocations"]["scripted"]["failed"]) == (1, 1)
    assert PendingRevocation.objects.get().last_error == "key_unavailable"


@pytest.mark.django_db(transaction=True)
@pytest.mark.compliance("D52")
def test_several_processes_in_parallel_revoke_each_token_once(start, pending, scripted):
    scripted.on("/revoke", Answer(200))
    pending(30)
    done = [finished(run) for run in [start("oauth_prune", "--json") for _ in range(3)]]
    assert [run.status for run in done] == [0, 0, 0], [run.err for run in done]
    assert len(scripted.asked("/revoke")) == 30
    counts = [run.document["revocations"].get("scripted", NONE)["revoked"] for run in done]
    assert sum(counts) == 30


@pytest.mark.django_db(transaction=True)
def test_a_signal_ends_it_after_the_current_token(start, pending, scripted):
    hold = threading.Event()
    scripted.on("/revoke", Answer(200, hold=hold))
    pending(5)
    running = start("oauth_prune", "--json")
    scripted.wait_for("/revoke")
    running.send_signal(signal.SIGTERM)  # it has got this before it gets an answer
    hold.set()
    run = finished(running)
    assert (run.status, run.document["stopped"]) == (0, True), run.err
    assert PendingRevocation.objects.count() == 5 - run.document["revocations"]["scripted"]["revoked"] >= 3


@pytest.mark.django_db(transaction=True)
def test_at_codeyard_a_revocation_that_failed_is_repeated_by_the_next_run(
    codeyard, make_connection, command, configure
):
    entry = codeyard.entry()
    configure(PROVIDERS={"codeyard": {**entry, "revocation_endpoint": "http://127.0.0.1:9/revoke"}})
    make_connection("codeyard", response=codeyard.grant()).disconnect()
    assert PendingRevocation.objects.get().last_error == "connection_refused"
    configure(PROVIDERS={"codeyard": entry})
    PendingRevocation.objects.update(next_attempt_at=timezone.now())
    assert command("oauth_prune").status == 0
    assert codeyard.stats["revocations"] == 1
    assert not PendingRevocation.objects.exists()


# --- erasing the history of a person ----------------------------------------------------------------


@pytest.fixture
def of_two(make_connection, user, other_user):
    """Events of both users, and one of an organisation that the first user has connected."""
    make_connection(owner=user)
    make_connection(owner=other_user)
    make_connection(owner="org:7", connected_by=user)


def owners() -> list[str]:
    return sorted(ConnectionEvent.objects.values_list("owner", flat=True))


def test_a_user_s_history_is_erased_and_the_user_s_name_in_that_of_others(command, of_two, user, other_user):
    run = command("oauth_prune", "--user", user.username, "--json")
    assert (run.status, run.document["removed"]) == (0, {"history": 1})
    assert owners() == sorted(["org:7", f"user:{other_user.pk}"])
    assert not ConnectionEvent.objects.filter(actor=user).exists()
    assert ConnectionEvent.objects.filter(actor=other_user).count() == 1


def test_an_owner_s_history_is_erased(command, of_two, user, other_user):
    run = command("oauth_prune", "--owner", "org:7")
    assert run.status == 0
    assert owners() == sorted([f"user:{user.pk}", f"user:{other_user.pk}"])


def test_erasing_touches_nothing_else(command, of_two, aged, user, scripted, make_connection):
    use_state("old", hours_ago=2)
    make_connection(owner=user, account_id="9").disconnect()
    connections = Connection.objects.count()
    requests = len(scripted.requests)
    run = command("oauth_prune", "--user", user.username)
    assert run.lines[0].split() == ["what", "deleted"]
    assert (Connection.objects.count(), ConsumedState.objects.count()) == (connections, 1)
    assert len(scripted.requests) == requests


def test_a_dry_run_of_erasing_says_how_much_there_is(command, of_two, user):
    run = command("oauth_prune", "--user", user.username, "--dry-run", "--json")
    assert run.document == {"dry_run": True, "old": {"history": 1}, "revocations": 0}
    assert len(owners()) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--user", "nobody"], "There is no user 'nobody'"),
        (["--owner", "org:7", "--history-days", "3"], "leave out the other options"),
        (["--user", "grace", "--revoked-after", "0"], "leave out the other options"),
    ],
)
def test_what_makes_no_sense_with_erasing_ends_with_2(command, user, arguments, message):
    run = command("oauth_prune", *arguments)
    assert run.status == 2
    assert message in run.err
