"""A process that forks (Celery's prefork pool, gunicorn's preload) leaves its children no lock that is held.

Only the thread that forks goes on in the child: whatever the others held there is released by nobody.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from oauth_connect.engine.single_flight import single_flight
from oauth_connect.models import Connection
from oauth_connect.models.lifecycle import access
from oauth_connect.stores import transactions
from tests.servers.scripted import Answer
from tests.support.threads import meanwhile
from tests.support.tokens import EXPIRED, FRESH

# Python 3.12 warns of just what is shown here: a thread's locks come along, and the thread does not.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

CHILD_TIMEOUT = 60  # seconds after which an alarm ends a child that hangs


def forked(work: Callable[[], object]) -> int:
    """Start a child in which only the calling thread goes on, and works; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(CHILD_TIMEOUT)
        os._exit(0 if work() else 1)
    finally:
        os._exit(2)


def succeeded(pid: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.fixture
def led(scripted: Any, scripted_provider: Any, make_connection: Any) -> Iterator[tuple[Connection, Any]]:
    """A connection whose turn a thread has, and the event until which its answer is held back."""
    hold = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=hold))
    connection = make_connection(age=EXPIRED)
    with meanwhile(Connection.objects.get(pk=connection.pk).access_token):
        try:
            scripted.wait_for("/token")
            yield connection, hold
        finally:
            hold.set()


@pytest.mark.django_db(transaction=True)
@pytest.mark.process
def test_a_child_forked_while_a_thread_has_a_turn_finds_the_turn_free(led):
    connection, _ = led
    turn = single_flight.of(access.row_store(connection).key)
    assert turn.lock.locked()

    def takes_its_turn() -> bool:
        return single_flight.of(access.row_store(connection).key).lock.acquire(blocking=False)

    assert succeeded(forked(takes_its_turn))
    assert turn.lock.locked(), "the parent's is its own"


@pytest.mark.django_db(transaction=True)
@pytest.mark.vendor("postgresql", "mysql")  # an open SQLite file must not be carried across a fork
def test_a_child_forked_while_a_thread_refreshes_takes_over_what_that_saves(led, scripted):
    connection, hold = led
    children: list[int] = []

    def gets_the_token() -> bool:
        return Connection.objects.get(pk=connection.pk).access_token() == "access-1"

    # By a thread without a database connection, as a master has none: a child must not use its parent's.
    master = threading.Thread(target=lambda: children.append(forked(gets_the_token)))
    master.start()
    master.join()
    hold.set()

    assert succeeded(children[0])
    assert len(scripted.asked("/token")) == 1


@pytest.mark.process
def test_a_child_forked_while_a_thread_looks_for_its_turn_can_look_for_one():
    with single_flight._guard:
        assert succeeded(forked(lambda: single_flight.of("a key").lock.acquire(blocking=False)))


@pytest.mark.process
def test_a_child_forked_while_every_extra_connection_is_in_use_has_all_of_them():
    def takes_all() -> bool:
        slots = transactions._slots.free
        return all(slots.acquire(blocking=False) for _ in range(transactions.MAX_CONNECTIONS))

    assert takes_all()
    try:
        assert succeeded(forked(takes_all))
    finally:
        transactions._slots.free.release(transactions.MAX_CONNECTIONS)
