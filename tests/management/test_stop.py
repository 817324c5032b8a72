"""A signal asks a command to stop."""

from __future__ import annotations

import signal

import pytest

from oauth_connect.management.stop import stop_request


def test_the_first_signal_is_a_request_and_the_second_has_its_default_effect(ctrl_c) -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_request() as asked:
        signal.raise_signal(signal.SIGINT)
        assert asked.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_stop_requested_before_there_is_anything_to_stop_is_remembered(ctrl_c) -> None:
    called: list[str] = []
    with stop_request() as request:
        signal.raise_signal(signal.SIGINT)
        request.then(lambda: called.append("immediately"))
    assert called == ["immediately"]


def test_in_a_thread_signals_are_not_received_and_the_code_still_works(calls_at_once) -> None:
    def use() -> bool:
        with stop_request() as asked:
            return asked.asked

    assert calls_at_once(2, use) == [False, False]
