"""What issuers say is remembered: here, for other processes, and for a day where it cannot be renewed."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core import signing
from django.core.cache import caches

from oauth_connect import issuers
from oauth_connect.errors import ProviderMisconfigured, ProviderUnavailable
from oauth_connect.issuers import MAX_STALE, RETRY_PAUSE, SALT, Issuers, Terms
from oauth_connect.protocol.metadata.discovery import Metadata
from oauth_connect.protocol.net.addresses import AddressGuard
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.clock import Clock
from tests.support.discovery import WELL_KNOWN
from tests.support.threads import meanwhile
from tests.support.waiting import TIMEOUT, Tally, tally_of

ROOT = Path(__file__).resolve().parents[1]
HERE = AddressGuard(frozenset({"127.0.0.1"}))
HOUR = 3600.0


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


@pytest.fixture
def known(clock: Clock) -> Issuers:
    return Issuers(clock)


@pytest.fixture
def terms(settings: Any, tmp_path: Path) -> Terms:
    """Terms that share what is learnt through files, as processes can."""
    backend = "django.core.cache.backends.filebased.FileBasedCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": str(tmp_path / "cache")}}
    return Terms(HERE, 5, caches["default"])


@pytest.fixture
def alone() -> Terms:
    """Terms that share nothing."""
    return Terms(HERE, 5)


@pytest.fixture
def publish(scripted: ScriptedServer) -> Callable[..., None]:
    """Let the scripted server publish its document; a different token endpoint for each ``number``."""

    def say(number: int = 1, *, until: Callable[[], object] | None = None, **headers: str) -> None:
        found = {"issuer": scripted.url, "token_endpoint": f"{scripted.url}/token/{number}"}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        scripted.on(WELL_KNOWN, Answer(body=found, headers=named, until=until))

    say()
    return say


def number(metadata: Metadata) -> int:
    return int(metadata.endpoints["token_endpoint"].rpartition("/")[2])


def asked(server: ScriptedServer) -> int:
    return len(server.asked(WELL_KNOWN))


# --- in one process -----------------------------------------------------------------------------


def test_a_document_is_fetched_once_and_again_when_it_has_expired(
    scripted, publish, known, clock, alone
) -> None:
    first = known.metadata(scripted.url, alone)
    assert known.metadata(scripted.url, alone) is first
    clock.now += HOUR - 1
    assert known.metadata(scripted.url, alone) is first
    publish(2)
    clock.now += 2
    assert number(known.metadata(scripted.url, alone)) == 2
    assert asked(scripted) == 2


def test_a_server_says_for_how_long(scripted, publish, known, clock, alone) -> None:
    publish(Cache_Control="max-age=600")
    known.metadata(scripted.url, alone)
    clock.now += 601
    known.metadata(scripted.url, alone)
    assert asked(scripted) == 2


def test_parallel_callers_make_one_request(
    scripted, publish, known, alone, calls_at_once, monkeypatch
) -> None:
    callers = tally_of(monkeypatch, known, "_slot")
    publish(until=lambda: callers.wait_for(12))
    found = calls_at_once(12, lambda: known.metadata(scripted.url, alone))
    assert {number(one) for one in found} == {1}
    assert asked(scripted) == 1


def test_parallel_callers_get_one_failure(scripted, known, alone, calls_at_once, monkeypatch) -> None:
    callers = tally_of(monkeypatch, known, "_slot")
    scripted.on(WELL_KNOWN, Answer(503, until=lambda: callers.wait_for(12)))
    found = calls_at_once(12, lambda: known.metadata(scripted.url, alone))
    assert {type(one) for one in found} == {ProviderUnavailable}
    assert {one.code for one in found} == {"http_503"}
    assert asked(scripted) == 1


def test_an_expired_document_is_used_while_another_caller_fetches(
    scripted, publish, known, clock, alone, calls_at_once
) -> None:
    known.metadata(scripted.url, alone)
    served = Tally("a caller was served")
    publish(2, until=lambda: served.wait_for(5))
    clock.now += HOUR + 1

    def call() -> Metadata:
        found = known.metadata(scripted.url, alone)
        served.add()
        return found

    found = [number(one) for one in calls_at_once(6, call)]
    assert sorted(found) == [1, 1, 1, 1, 1, 2]
    assert asked(scripted) == 2


def test_no_caller_waits_for_ever(scripted, publish, known, alone, monkeypatch) -> None:
    monkeypatch.setattr(issuers, "LOCK_MARGIN", -4.9)
    given_up = threading.Event()
    publish(until=lambda: given_up.wait(TIMEOUT))
    with meanwhile(lambda: known.metadata(scripted.url, alone)):
        scripted.wait_for(WELL_KNOWN)
        with pytest.raises(ProviderUnavailable) as error:
            known.metadata(scripted.url, alone)
        given_up.set()
    assert error.value.code == "busy"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_lock_that_was_held_at_fork_is_free_in_the_child(scripted, publish, known, alone) -> None:
    slot = known._slot(scripted.url, alone.guard)
    with slot.lock:
        known._renew_locks()
        assert number(known.metadata(scripted.url, alone)) == 1
        held = slot.lock
    assert not held.locked()


def test_a_table_of_issuers_does_not_fill_the_memory(known, alone, monkeypatch) -> None:
    monkeypatch.setattr(issuers, "MAX_ISSUERS", 10)
    for count in range(100):
        known._slot(f"https://{count}.example", alone.guard)
    assert len(known._slots) <= 10


# --- when it cannot be renewed ------------------------------------------------------------------

FAILURES = {
    "down": Answer(503),
    "dropped": Answer(reset=True),
    "gone": Answer(404),
    "another issuer": Answer(
        body={"issuer": "https://evil.example", "token_endpoint": "https://evil.example/"}
    ),
}


@pytest.mark.parametrize("answer", FAILURES.values(), ids=FAILURES)
def test_an_expired_document_serves_for_a_day_and_it_is_logged(
    scripted, publish, known, clock, alone, caplog, answer
) -> None:
    known.metadata(scripted.url, alone)
    scripted.on(WELL_KNOWN, answer)
    clock.now += HOUR + 1
    with caplog.at_level(logging.WARNING, logger="oauth_connect.issuers"):
        assert number(known.metadata(scripted.url, alone)) == 1
    assert f"discovery failed: {scripted.url}" in caplog.text

    clock.now += MAX_STALE - 2
    assert number(known.metadata(scripted.url, alone)) == 1
    clock.now += 2
    with pytest.raises((ProviderUnavailable, ProviderMisconfigured)):
        known.metadata(scripted.url, alone)


def test_a_failed_fetch_is_not_repeated_immediately(scripted, publish, known, clock, alone) -> None:
    known.metadata(scripted.url, alone)
    scripted.on(WELL_KNOWN, Answer(503))
    clock.now += HOUR + 1
    for _ in range(5):
        known.metadata(scripted.url, alone)
    assert asked(scripted) == 2

    publish(2)
    clock.now += RETRY_PAUSE
    assert number(known.metadata(scripted.url, alone)) == 2
    assert asked(scripted) == 3


def test_without_a_document_the_failure_is_raised_each_time(scripted, known, clock, alone) -> None:
    for _ in range(3):
        with pytest.raises(ProviderMisconfigured) as error:
            known.metadata(scripted.url, alone)
        assert error.value.code == "http_404"
    assert asked(scripted) == 1


# --- shared by processes ------------------------------------------------------------------------


def test_another_process_does_not_ask_again(scripted, publish, clock, terms) -> None:
    Issuers(clock).metadata(scripted.url, terms)
    assert number(Issuers(clock).metadata(scripted.url, terms)) == 1
    assert asked(scripted) == 1


OTHER_PROCESS = """
import sys, django
django.setup()
from django.conf import settings
from django.core.cache import caches
settings.CACHES = {"default": {"BACKEND": sys.argv[2], "LOCATION": sys.argv[3]}}
from oauth_connect.conf import conf
settings.OAUTH_CONNECT = {"PROVIDERS": {"acme": {"issuer": sys.argv[1], "client_id": "x"}}}
print(conf.provider("acme").token_endpoint)
"""


@pytest.mark.process
def test_so_it_is_with_a_real_process(scripted, publish, known, terms, settings) -> None:
    known.metadata(scripted.url, terms)
    cache = settings.CACHES["default"]
    finished = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, scripted.url, cache["BACKEND"], cache["LOCATION"]],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.stdout == f"{scripted.url}/token/1\n"
    assert asked(scripted) == 1


def test_what_another_process_renewed_is_taken(scripted, publish, clock, terms) -> None:
    first, second = Issuers(clock), Issuers(clock)
    first.metadata(scripted.url, terms)
    second.metadata(scripted.url, terms)
    clock.now += HOUR + 1
    publish(2)
    assert number(first.metadata(scripted.url, terms)) == 2
    assert number(second.metadata(scripted.url, terms)) == 2
    assert asked(scripted) == 2


def test_a_new_process_lives_on_an_expired_document_too(scripted, publish, clock, terms) -> None:
    Issuers(clock).metadata(scripted.url, terms)
    scripted.on(WELL_KNOWN, Answer(503))
    clock.now += HOUR + 1
    assert number(Issuers(clock).metadata(scripted.url, terms)) == 1


def test_the_newest_of_both_serves(scripted, publish, known, clock, terms) -> None:
    known.metadata(scripted.url, terms)
    publish(2)
    clock.now += HOUR + 1
    known.metadata(scripted.url, Terms(HERE, 5))  # not shared
    scripted.on(WELL_KNOWN, Answer(503))
    clock.now += HOUR + 1
    assert number(known.metadata(scripted.url, terms)) == 2


@pytest.mark.compliance("A25")
@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://id.example/"},
        {"token_endpoint": "http://id.example/token"},
        {"token_endpoint": "https://169.254.169.254/"},
    ],
)
def test_what_the_cache_holds_is_read_as_if_it_came_from_the_issuer(
    scripted, publish, known, clock, terms, changes
) -> None:
    document = {"issuer": scripted.url, "token_endpoint": f"{scripted.url}/token/9", **changes}
    put(terms, scripted.url, signing.dumps({"document": document, "fresh_until": clock.now + 9}, salt=SALT))
    assert number(known.metadata(scripted.url, terms)) == 1


def test_what_was_fetched_where_a_private_host_is_let_through_is_not_lent_to_others(
    scripted, publish, clock, terms
) -> None:
    known = Issuers(clock)
    known.metadata(scripted.url, terms)
    strict = Terms(AddressGuard(), 5, terms.cache)
    for someone in (known, Issuers(clock)):
        with pytest.raises(ProviderMisconfigured) as error:
            someone.metadata(scripted.url, strict)
        assert error.value.code == "forbidden_address"


@pytest.mark.parametrize("salt", ["another", "oauth_connect.scopes"])
def test_a_forged_entry_of_the_cache_sends_no_secret_anywhere(
    scripted, publish, known, clock, terms, caplog, salt
) -> None:
    document = {"issuer": scripted.url, "token_endpoint": "https://evil.example/token"}
    put(terms, scripted.url, signing.dumps({"document": document, "fresh_until": clock.now + 9}, salt=salt))
    assert number(known.metadata(scripted.url, terms)) == 1
    assert "cannot be used" in caplog.text


@pytest.mark.parametrize("held", [5, "", b"\x00", {"document": {}}, ["x"]])
def test_odd_entries_of_the_cache_are_passed_by(scripted, publish, known, terms, held: Any) -> None:
    put(terms, scripted.url, held)
    assert number(known.metadata(scripted.url, terms)) == 1
    put(terms, scripted.url, signing.dumps(held if not isinstance(held, bytes) else 1, salt=SALT))
    assert number(Issuers().metadata(scripted.url, terms)) == 1


def put(terms: Terms, issuer: str, value: Any) -> None:
    assert terms.cache is not None
    terms.cache.set(issuers._key(issuer), value)


class BrokenCache:
    def get(self, key: str) -> Any:
        raise ConnectionError("the cache is down")

    def set(self, key: str, value: Any, timeout: float) -> None:
        raise ConnectionError("the cache is down")


def test_a_cache_that_is_down_costs_a_request_and_no_more(scripted, publish, known, caplog) -> None:
    broken: Any = BrokenCache()
    assert number(known.metadata(scripted.url, Terms(HERE, 5, broken))) == 1
    assert "cannot be cached" in caplog.text


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    caches["default"].clear()
