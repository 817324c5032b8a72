"""Processes that a test starts. Each is forked from a server, and ends with its test.

A fork server is started once for each set of imports. It runs until pytest ends.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from tests.support.databases import worker_environment
from tests.support.forkserver import LENGTH

ROOT = Path(__file__).resolve().parents[2]
PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL
WITH_DJANGO = "tests.support.preloaded"


class Worker(Protocol):
    """A test's handle of a process."""

    process: Forked

    def kill(self) -> None: ...


W = TypeVar("W", bound=Worker)


class Forked:
    """A process, with what tests use of `subprocess.Popen`."""

    def __init__(self, pid: int, status: int, streams: list[IO[str] | None]) -> None:
        self.pid = pid
        self.stdin, self.stdout, self.stderr = streams
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        return self._status_within(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code. Raises TimeoutExpired if the process still runs after ``timeout`` seconds."""
        if self._status_within(timeout) is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, given: str = "", timeout: float | None = None) -> tuple[str, str]:
        """Write to stdin and close it, read stdout and stderr to their ends, and wait for the process."""
        with ThreadPoolExecutor(3) as pool:
            writing = pool.submit(self._write, given)
            reading = [pool.submit(read, stream) for stream in (self.stdout, self.stderr)]
            try:
                out, err = [done.result(timeout) for done in reading]
            except TimeoutError:
                self.kill()  # ends the reads
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0) from None
            writing.result()
        self.wait(timeout)
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _write(self, given: str) -> None:
        if self.stdin is not None and not self.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.stdin.write(given)
                self.stdin.close()

    def _status_within(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            written = os.read(self._status, 16)
            os.close(self._status)
            assert written, "the fork server has ended"
            self.returncode = int(written)
        return self.returncode


def read(stream: IO[str] | None) -> str:
    if stream is None:
        return ""
    with stream:
        return stream.read()


class ForkServer:
    """A server process with the imports of a module."""

    def __init__(self, preloaded: str, environment: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forkserver", str(theirs.fileno()), preloaded],
                cwd=ROOT,
                env=environment,
                pass_fds=[theirs.fileno()],
            )

    def fork(self, orders: dict[str, Any], descriptors: list[int]) -> int:
        """Fork a process that has these descriptors, and return its id."""
        content = json.dumps(orders).encode()
        with self._lock:
            socket.send_fds(self._channel, [LENGTH.pack(len(content))], descriptors)
            self._channel.sendall(content)
            pid = self._channel.recv(LENGTH.size)
        assert pid, "the fork server has ended; its traceback is in the captured output"
        return int(LENGTH.unpack(pid)[0])

    def stop(self) -> None:
        self._channel.close()
        self._process.wait()


@cache
def fork_server(preloaded: str, environment: frozenset[tuple[str, str]]) -> ForkServer:
    server = ForkServer(preloaded, {**worker_environment(), **dict(environment)})
    atexit.register(server.stop)
    return server


def start(
    module: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    preloaded: str = WITH_DJANGO,
    preloaded_with: Mapping[str, str] | None = None,
    stdin: int | None = PIPE,
    stdout: int | None = PIPE,
    stderr: int | None = None,
    warnings_are_errors: bool = False,
    new_session: bool = False,
) -> Forked:
    """Run ``python -m module`` in a new process that already has the imports of ``preloaded``.

    The process is killed when the test ends. ``environment`` is its whole environment. The default is this
    process's environment with the variables of the test databases. ``preloaded_with``: variables that the
    imports need. The streams are those of `subprocess.Popen`, as text.
    """
    server = fork_server(preloaded, frozenset((preloaded_with or {}).items()))
    orders = {
        "module": module,
        "arguments": arguments,
        "environment": dict(worker_environment() if environment is None else environment),
        "warnings_are_errors": warnings_are_errors,
        "new_session": new_session,
    }
    with contextlib.ExitStack() as theirs:
        ends = [end_of(stream, number, theirs) for number, stream in enumerate((stdin, stdout, stderr))]
        status, write_status = os.pipe()
        theirs.callback(os.close, write_status)
        pid = server.fork(orders, [*(descriptor for descriptor, _ in ends), write_status])
    process = Forked(pid, status, [ours for _, ours in ends])
    processes_of_the_test.append(process)
    return process


def started(module: str, orders: Any) -> Forked:
    """Run a module on this run's test databases. It reads its orders from the first line of stdin."""
    process = start(module)
    send_line(process, json.dumps(orders))
    return process


def end_of(stream: int | None, number: int, theirs: contextlib.ExitStack) -> tuple[int, IO[str] | None]:
    """Return the descriptor for the process. For a pipe, also return the test's end."""
    if stream is None:
        return number, None
    if stream == DEVNULL:
        descriptor = os.open(os.devnull, os.O_RDWR)
        theirs.callback(os.close, descriptor)
        return descriptor, None
    if stream != PIPE:
        return stream, None
    reader, writer = os.pipe()
    descriptor, ours, mode = (reader, writer, "w") if number == 0 else (writer, reader, "r")
    theirs.callback(os.close, descriptor)
    return descriptor, os.fdopen(ours, mode, encoding="utf-8")


def send_line(process: Forked | subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


@contextlib.contextmanager
def starting(worker: Callable[..., W]) -> Iterator[Callable[..., W]]:
    """Return a function that makes workers, each with a process.

    Those that a failed test leaves running are killed before its database goes.
    """
    workers: list[W] = []

    def begin(*arguments: Any, **orders: Any) -> W:
        workers.append(worker(*arguments, **orders))
        return workers[-1]

    yield begin
    for one in workers:
        if one.process.returncode is None:
            one.kill()


processes_of_the_test: list[Forked] = []


def end_all() -> None:
    """Kill the processes that the test has left running."""
    while processes_of_the_test:
        process = processes_of_the_test.pop()
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
