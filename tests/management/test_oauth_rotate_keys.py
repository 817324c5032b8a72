"""oauth_rotate_keys: everything ends up under the first key, and no token is lost on the way."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.db import OperationalError
from django.db import connection as database

from oauth_connect import crypto
from oauth_connect.errors import KeyUnavailable
from oauth_connect.jobs import rotate_keys
from oauth_connect.models import Connection, ConnectionEvent, PendingRevocation
from oauth_connect.models.fields import SealedField
from oauth_connect.stores.columns import binding, sealed_column
from tests.faults.held import held_by_another
from tests.management.conftest import finished
from tests.support.keys import Worker
from tests.support.processes import starting
from tests.support.tokens import raw, stored

pytestmark = pytest.mark.django_db(transaction=True)

NEW = base64.urlsafe_b64encode(b"the new key".ljust(32, b".")).decode()
THIRD = base64.urlsafe_b64encode(b"a third key".ljust(32, b".")).decode()


@pytest.fixture
def old(settings: Any) -> str:
    return str(settings.OAUTH_CONNECT["KEYS"][0])


@pytest.fixture(autouse=True)
def provider(scripted_provider: Any) -> None:
    pass


@pytest.fixture
def worker() -> Iterator[Any]:
    """Start processes."""
    with starting(Worker) as begin:
        yield begin


def pend(connection: Connection) -> PendingRevocation:
    pending = PendingRevocation.of(connection)
    pending.seal(connection.token)
    pending.save()
    return pending


def places() -> list[int | None]:
    return [crypto.key_index(row.sealed_token, binding(row)) for row in Connection.objects.all()]


# --- what it does ---------------------------------------------------------------------------------


def test_everything_sealed_opens_with_the_new_key_alone(command, configure, make_connection, old):
    connections = [make_connection() for _ in range(5)]
    pending = pend(connections[0])
    configure(KEYS=[NEW, old])
    run = command("oauth_rotate_keys", "--batch-size", "2")
    assert run.status == 0
    assert run.lines[:3] == [
        "what                 key 1  key 2  no key  re-encrypted",
        "connections              0      5       0             5",
        "pending revocations      0      1       0             1",
    ]
    assert "you can remove the other keys" in run.lines[-1]
    configure(KEYS=[NEW])
    assert [stored(one).token.refresh_token for one in connections] == ["refresh-0"] * 5
    assert PendingRevocation.objects.get(pk=pending.pk).open().refresh_token == "refresh-0"


def test_only_the_ciphertext_is_written(command, configure, make_connection, old):
    connection = make_connection()
    raw(connection).update(lease_owner="somebody", lease_until=2**50)
    before = raw(connection).values().get()
    configure(KEYS=[NEW, old])
    assert command("oauth_rotate_keys").status == 0
    after = raw(connection).values().get()
    assert {name for name in after if after[name] != before[name]} == {"sealed_token"}


def test_a_second_run_finds_nothing_to_do(command, configure, make_connection, old):
    connection = make_connection()
    configure(KEYS=[NEW, old])
    command("oauth_rotate_keys")
    sealed = stored(connection).sealed_token
    document = command("oauth_rotate_keys", "--json").document
    assert document["resealed"] == {"connections": 0, "pending_revocations": 0, "registered_clients": 0}
    assert document["opened_by_key"]["connections"] == [1, 0]
    assert stored(connection).sealed_token == sealed


def test_a_connection_without_a_token_is_nothing_to_seal(command, configure, make_connection, old):
    make_connection().disconnect()
    configure(KEYS=[NEW, old])
    document = command("oauth_rotate_keys", "--json").document
    assert document["opened_by_key"]["connections"] == [0, 0]


def test_each_rotation_is_in_the_history(command, configure, make_connection, old):
    connection = make_connection()
    pend(connection)
    configure(KEYS=[NEW, old])
    command("oauth_rotate_keys")
    command("oauth_rotate_keys")
    (entry,) = ConnectionEvent.objects.filter(action="key_rotated")
    assert (entry.connection_id, entry.provider, entry.owner) == (
        connection.pk,
        "scripted",
        connection.owner,
    )


def test_where_no_history_is_kept_none_is_written(command, configure, make_connection, old):
    configure(HISTORY_DAYS=0)
    make_connection()
    configure(KEYS=[NEW, old])
    assert command("oauth_rotate_keys").status == 0
    assert not ConnectionEvent.objects.exists()


def test_a_row_is_one_update_and_no_transaction_takes_more_than_a_batch(
    command, configure, make_connection, old, monkeypatch, django_assert_max_num_queries
):
    configure(HISTORY_DAYS=0)
    for _ in range(6):
        make_connection()
    configure(KEYS=[NEW, old])
    batches: list[int] = []
    swap = rotate_keys.swap_ciphertexts

    def counting(new: Any, alias: str) -> Any:
        batches.append(len(new))
        return swap(new, alias)

    monkeypatch.setattr(rotate_keys, "swap_ciphertexts", counting)
    with django_assert_max_num_queries(40) as asked:
        command("oauth_rotate_keys", "--batch-size", "3")
    written = [
        one["sql"] for one in asked.captured_queries if re.search("UPDATE .+ SET .sealed_token", one["sql"])
    ]
    assert (batches, len(written)) == ([3, 3], 6), written


def test_every_sealed_column_of_the_app_is_rotated():
    sealed = {
        (model, field.name)
        for model in apps.get_app_config("oauth_connect").get_models()
        for field in model._meta.concrete_fields
        if isinstance(field, SealedField)
    }
    assert sealed == {(model, sealed_column(model)) for model in rotate_keys.SEALED.values()}


# --- --dry-run, --generate ------------------------------------------------------------------------


def test_a_dry_run_counts_by_key_and_changes_nothing(command, configure, make_connection, old):
    connections = [make_connection() for _ in range(3)]
    configure(KEYS=[NEW, old])
    connections.append(make_connection())
    before = [stored(one).sealed_token for one in connections]
    run = command("oauth_rotate_keys", "--dry-run")
    assert run.status == 0
    assert run.lines[1].split() == ["connections", "1", "3", "0"]
    assert run.lines[-1] == "Key 1 encrypts. Nothing was changed."
    document = command("oauth_rotate_keys", "--dry-run", "--json").document
    assert (document["dry_run"], document["opened_by_key"]["connections"]) == (True, [1, 3])
    assert "resealed" not in document
    assert [stored(one).sealed_token for one in connections] == before
    for key in (NEW, old):
        assert key not in run.out + run.err


def test_generate_prints_a_key_that_the_settings_take_and_says_what_to_do(command, configure):
    configure(KEYS=[])
    run = command("oauth_rotate_keys", "--generate")
    (key,) = run.lines
    assert "last, on every machine" in run.err
    assert run.status == 0
    configure(KEYS=[key])
    crypto.check_sealing()
    assert command("oauth_rotate_keys", "--generate", "--json").document["key"] != key


@pytest.mark.parametrize("arguments", ["--batch-size 0", "--batch-size x", "--dry-run --generate"])
def test_a_wrong_option_ends_with_2(process, arguments):
    assert process("oauth_rotate_keys", *arguments.split()).status == 2


def test_without_keys_it_ends_with_2(command, configure):
    configure(KEYS=[])
    run = command("oauth_rotate_keys", "--json")
    assert run.status == 2
    assert "KEYS" in run.document["error"]


@pytest.mark.parametrize(("missing", "told"), [("connections", ""), ("pending_revocations", "connections")])
def test_where_nothing_could_be_read_there_is_no_table(command, make_connection, monkeypatch, missing, told):
    make_connection()
    rows_of = rotate_keys._rows

    def rows(what: str) -> Any:
        if what == missing:
            raise OperationalError("canary: no such table")
        return rows_of(what)

    monkeypatch.setattr(rotate_keys, "_rows", rows)
    for option in ([], ["--dry-run"]):
        run = command("oauth_rotate_keys", *option)
        assert run.status == 1
        assert "Run migrate" in run.err
        assert "canary" not in run.out + run.err
        assert bool(run.out) is bool(told)
        assert told in run.out


# --- what no key opens ----------------------------------------------------------------------------


@pytest.mark.compliance("D43")
@pytest.mark.parametrize("option", [[], ["--dry-run"]])
def test_a_token_that_no_key_opens_is_reported_and_kept_and_the_rest_continues(
    command, configure, make_connection, old, option
):
    configure(KEYS=[THIRD])
    lost = make_connection()
    sealed = lost.sealed_token
    configure(KEYS=[old])
    connection = make_connection()
    configure(KEYS=[NEW, old])
    run = command("oauth_rotate_keys", *option)
    assert run.status == 1
    assert f"connections {lost.pk} (scripted): no key opens it" in run.lines
    assert "Put the key that sealed them back" in run.err
    assert stored(lost).sealed_token == sealed
    assert crypto.key_index(stored(connection).sealed_token, binding(connection)) == (1 if option else 0)
    document = command("oauth_rotate_keys", *option, "--json").document
    assert document["unopened"] == [{"what": "connections", "pk": str(lost.pk), "provider": "scripted"}]

    configure(KEYS=[NEW, old, THIRD])
    assert command("oauth_rotate_keys").status == 0
    configure(KEYS=[NEW])
    assert stored(lost).token.refresh_token == "refresh-0"


@pytest.mark.compliance("D44")
def test_a_copied_ciphertext_is_not_resealed_for_the_row_it_was_copied_to(
    command, configure, make_connection, old
):
    mine, other = make_connection(), make_connection()
    raw(other).update(sealed_token=mine.sealed_token)
    configure(KEYS=[NEW, old])
    assert command("oauth_rotate_keys").status == 1
    assert stored(other).sealed_token == mine.sealed_token
    with pytest.raises(KeyUnavailable):
        _ = stored(other).token


# --- others at work -------------------------------------------------------------------------------


def test_a_refresh_between_reading_and_writing_has_the_last_word(
    rotating, configure, many, make_connection, worker, old
):
    first, second = many(2)
    configure(KEYS=[NEW, old])
    run = worker("rotate", stop=1, when="before").until("ready").go().until("stopped")
    stored(first).refresh()
    result = run.go().result()
    assert (result["resealed"]["connections"], result["opened_by_key"]["connections"]) == (1, [1, 1])
    configure(KEYS=[NEW])
    assert stored(first).token.refresh_token == "row0-1"
    assert stored(second).token.refresh_token == "row1-0"
    stored(first).refresh()
    assert set(rotating.spent.values()) == {1}


def test_a_refresh_by_a_machine_with_the_old_ring_is_resealed_too(rotating, configure, many, worker, old):
    (connection,) = many(1)
    configure(KEYS=[NEW, old])
    run = worker("rotate", stop=1, when="before").until("ready").go().until("stopped")
    configure(KEYS=[old, NEW])
    stored(connection).refresh()
    configure(KEYS=[NEW])
    result = run.go().result()
    assert result["resealed"]["connections"] == 1
    assert stored(connection).token.refresh_token == "row0-1"


def test_a_disconnect_between_reading_and_writing_stays_one(configure, make_connection, worker, old):
    connection = make_connection()
    configure(KEYS=[NEW, old])
    run = worker("rotate", stop=1, when="before").until("ready").go().until("stopped")
    connection.disconnect()
    assert run.go().result()["resealed"]["connections"] == 0
    assert stored(connection).sealed_token is None


@pytest.mark.parametrize("deployed", ["everywhere", "not everywhere yet"])
def test_no_token_is_lost_while_processes_refresh_what_is_resealed(
    rotating, configure, many, worker, process, old, deployed
):
    used = many(8)
    rings = [[NEW, old], [NEW, old] if deployed == "everywhere" else [old, NEW]]
    refreshers = [worker("refresh", used, ring).until("ready") for ring in rings]
    configure(KEYS=[NEW, old])
    resealed, runs = 0, 0
    keys = [NEW, old]
    while runs < 6 or len(rotating.spent) <= 20:
        runs += 1
        configure(KEYS=keys)
        run = process("oauth_rotate_keys", "--json", "--batch-size", "3")
        assert run.status == 0, run.err
        resealed += run.document["resealed"]["connections"]
        keys = keys[::-1]  # so that there is something to seal each time
    seen = [one.go().result() for one in refreshers]

    assert resealed >= 8
    assert sum(one["refreshed"] for one in seen) > 20
    assert [set(one) for one in seen] == [{"refreshed"}] * 2, seen
    assert set(rotating.spent.values()) == {1}, "no spent token was presented"
    configure(KEYS=[NEW, old])
    assert process("oauth_rotate_keys").status == 0
    configure(KEYS=[NEW])
    for number, connection in enumerate(used):
        uses = sum(1 for token in rotating.spent if token.startswith(f"row{number}-"))
        assert stored(connection).token.refresh_token == f"row{number}-{uses}"


@pytest.mark.compliance("D31")
def test_a_killed_run_is_continued_by_the_next(configure, many, rotating, worker, process, old):
    used = many(20)
    configure(KEYS=[NEW, old])
    run = worker("rotate", stop=3, batch_size=5).until("ready").go().until("stopped")
    run.kill()
    # The third batch had been written, and not committed.
    assert sorted(place for place in places() if place is not None) == [0] * 10 + [1] * 10

    again = process("oauth_rotate_keys", "--json", "--batch-size", "5")
    assert again.document["opened_by_key"]["connections"] == [10, 10]
    assert again.document["resealed"]["connections"] == 10
    assert ConnectionEvent.objects.filter(action="key_rotated").count() == 20
    configure(KEYS=[NEW])
    assert sorted(stored(one).token.refresh_token for one in used) == sorted(f"row{n}-0" for n in range(20))


def test_two_parallel_runs_do_no_harm(configure, make_connection, start, command, old):
    used = [make_connection() for _ in range(60)]
    configure(KEYS=[NEW, old])
    runs = [
        finished(one) for one in [start("oauth_rotate_keys", "--json", "--batch-size", "4") for _ in "ab"]
    ]
    # On a busy machine one run may hold rows for longer than the other tries to get them.
    runs.append(command("oauth_rotate_keys", "--json"))
    assert runs[-1].status == 0, [run.err for run in runs]
    assert sum(run.document["resealed"]["connections"] for run in runs) == 60
    configure(KEYS=[NEW])
    assert {stored(one).token.refresh_token for one in used} == {"refresh-0"}


@pytest.mark.vendor("postgresql", "mysql")
def test_a_locked_row_does_not_block_the_others(command, configure, make_connection, old):
    held, free = make_connection(), make_connection()
    configure(KEYS=[NEW, old])
    with held_by_another(held, seconds=40):
        run = command("oauth_rotate_keys", "--json")
    # Had it waited until the row was free, nothing would be left.
    assert (run.status, run.document["left"]["connections"]) == (1, 1)
    assert crypto.key_index(stored(free).sealed_token, binding(free)) == 0
    assert command("oauth_rotate_keys").status == 0
    assert places() == [0, 0]


@pytest.mark.vendor("mysql")
def test_how_long_the_callers_own_connection_waits_is_left_as_it_was(
    command, configure, make_connection, old
):
    def lock_wait() -> int:
        with database.cursor() as cursor:
            cursor.execute("SELECT @@SESSION.innodb_lock_wait_timeout")
            (seconds,) = cursor.fetchone()
        return int(seconds)

    make_connection()
    configure(KEYS=[NEW, old])
    before = lock_wait()
    assert command("oauth_rotate_keys", json=True).document["resealed"]["connections"] == 1
    assert lock_wait() == before > 1


def test_a_terminal_is_no_place_for_a_token(command, configure, make_connection, canary, old):
    make_connection(response={"access_token": f"{canary}-a", "token_type": "Bearer"})
    configure(KEYS=[NEW, old])
    run = command("oauth_rotate_keys", "--verbosity", "2")
    assert canary not in run.out + run.err
