"""Commands, run here or in processes of their own, on this test's databases and settings."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site
from django.core.management import CommandError, call_command

from oauth_connect import signals
from tests.support.databases import worker_environment
from tests.support.processes import PIPE, Forked
from tests.support.processes import start as start_process

ROOT = Path(__file__).resolve().parents[2]
OTHER_KEY = base64.urlsafe_b64encode(b"\x07" * 32).decode()


class Run:
    """What a command said, and its exit status."""

    def __init__(self, out: str, err: str, status: int) -> None:
        self.out = out
        self.err = err
        self.status = status

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@pytest.fixture
def command() -> Callable[..., Run]:
    """Run a command in this process."""

    def run(*arguments: str, **options: Any) -> Run:
        out, err = io.StringIO(), io.StringIO()
        status = 0
        try:
            call_command(*arguments, stdout=out, stderr=err, **options)
        except CommandError as error:
            status = error.returncode
            err.write(str(error))
        return Run(out.getvalue(), err.getvalue(), status)

    return run


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """A process that was started in the background ignores SIGINT, and so do those that it starts."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, inherited)


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Forked]:
    """Start ``python -m django`` with this test's OAUTH_CONNECT."""

    numbers = count()

    def begin(*arguments: str, stdout: int = PIPE, stderr: int = PIPE) -> Forked:
        module = f"from tests.settings import *\nOAUTH_CONNECT = {site.OAUTH_CONNECT!r}\n"
        # A new name each time: bytecode of the same name, size and second would be taken for this text's.
        name = f"site_of_a_test_{next(numbers)}"
        (tmp_path / f"{name}.py").write_text(module, encoding="utf-8")
        environment = {**worker_environment(), "DJANGO_SETTINGS_MODULE": name}
        environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
        return start_process(
            "django",
            *arguments,
            environment=environment,
            stdin=None,
            stdout=stdout,
            stderr=stderr,
            warnings_are_errors=True,
        )

    return begin


@pytest.fixture
def process(start: Callable[..., Forked]) -> Callable[..., Run]:
    """Run a command in a process of its own."""

    def run(*arguments: str) -> Run:
        return finished(start(*arguments))

    return run


def finished(started: Forked) -> Run:
    out, err = started.communicate(timeout=120)
    return Run(out, err, started.returncode)


@pytest.fixture
def signals_heard() -> Iterator[list[str]]:
    heard: list[str] = []
    receivers = {}
    for name in ("refreshed", "refresh_failed", "reauthorization_required"):

        def receive(sender: Any, name: str = name, **kwargs: Any) -> None:
            heard.append(name)

        receivers[name] = receive
        getattr(signals, name).connect(receive)
    yield heard
    for name, receive in receivers.items():
        getattr(signals, name).disconnect(receive)
