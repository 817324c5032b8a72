"""The demo's child processes. They are started, waited for, and always stopped."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent.parent
HOST = "127.0.0.1"
READY_TIMEOUT = 60
STOP_TIMEOUT = 5


class StartError(Exception):
    """A child process ended or timed out before it was ready."""


class Process:
    """A Python process that prints `ready URL` and stops when its stdin closes."""

    def __init__(self, name: str, arguments: Sequence[str], settings: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.url = ""
        self.settings = settings
        self._log = log
        self._ready: queue.Queue[str] = queue.Queue()
        self._environment = _environment(settings)
        with log.open("wb") as stderr:
            self._child = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                encoding="utf-8",
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Process:
        try:
            self.url = self._await_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a management command in another process, with the same settings."""
        return subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )

    def errors(self) -> str:
        """Return the text that the process has written to stderr so far."""
        return self._log.read_text(encoding="utf-8", errors="replace").strip()

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a management command in another process, with the same settings."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            encoding="utf-8",
            timeout=READY_TIMEOUT,
            check=False,
        )

    def stop(self) -> None:
        """Close its stdin, which asks it to stop on every system. Kill it after a timeout."""
        if self._child.stdin is not None:
            self._child.stdin.close()
        try:
            self._child.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._reader.join(STOP_TIMEOUT)
        if self._child.stdout is not None:
            self._child.stdout.close()

    def _read(self) -> None:
        # Read to the end, because a child whose pipe is full would block.
        for line in self._child.stdout or ():
            word, _, url = line.strip().partition(" ")
            if word == "ready":
                self._ready.put(url)
        self._ready.put("")

    def _await_ready(self) -> str:
        with suppress(queue.Empty):
            if url := self._ready.get(timeout=READY_TIMEOUT):
                return url
        self.stop()
        raise StartError(f"{self.name} did not start.\n{self.errors()}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without variables that configure another project or a proxy."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DJANGO_", "SITE_", "CODEYARD_", "OAUTH_CONNECT_")) and name != "SECRET_KEY"
    }
    return {**kept, "NO_PROXY": HOST, "no_proxy": HOST, **settings}
