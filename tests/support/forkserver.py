"""A server that forks processes with their imports done: ``python -m tests.support.forkserver FD MODULE``.

Starting Python and importing Django takes most of a second. A fork takes milliseconds. The child has its own
environment, streams and database connections, and can be killed.

FD is a socket. A request is a length (four bytes, sent with four descriptors: stdin, stdout, stderr and the
one to write the exit status to) and that many bytes of JSON. The response is the process id.
`tests.support.processes` is the client.

The server imports MODULE first. MODULE may define ``after_fork()``. Each new process calls it after it has
set its environment, to replace what the server read from its own environment.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
import warnings
from collections.abc import Callable
from typing import Any

LENGTH = struct.Struct("!I")
DESCRIPTORS = 4
STREAMS = (0, 1, 2)


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    preloaded = importlib.import_module(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which then closes the channel
    gc.collect()
    gc.freeze()  # otherwise a collection in a child copies all imported objects
    serve(channel, getattr(preloaded, "after_fork", lambda: None))


def serve(channel: socket.socket, after_fork: Callable[[], None]) -> None:
    """Fork for each request, until the other end of the channel is closed."""
    running: dict[int, int] = {}  # process -> where its exit status goes
    with selectors.DefaultSelector() as selector:
        ended = wake_up_when_one_ends()
        selector.register(channel, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if ended in ready:
                ended.recv(4096)
                report(running)
            if channel in ready:
                head, descriptors, _, _ = socket.recv_fds(channel, LENGTH.size, DESCRIPTORS)
                if not head:
                    return
                orders = json.loads(receive(channel, *LENGTH.unpack(head)))
                pid = os.fork()
                if not pid:
                    channel.close()
                    ended.close()
                    become(orders, descriptors, after_fork)
                    return
                running[pid] = descriptors.pop()
                for descriptor in descriptors:
                    os.close(descriptor)
                channel.sendall(LENGTH.pack(pid))


def wake_up_when_one_ends() -> socket.socket:
    """Return a socket that can be read when a child has ended."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reader


def report(running: dict[int, int]) -> None:
    """Write the exit status of each child that has ended."""
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        descriptor = running.pop(pid)
        with contextlib.suppress(BrokenPipeError):  # the test has closed its end
            os.write(descriptor, str(os.waitstatus_to_exitcode(status)).encode())
        os.close(descriptor)


def receive(channel: socket.socket, length: int) -> bytes:
    content = b""
    while len(content) < length:
        content += channel.recv(length - len(content))
    return content


def become(orders: dict[str, Any], descriptors: list[int], after_fork: Callable[[], None]) -> None:
    """Run a module as the main program of this forked process."""
    os.close(signal.set_wakeup_fd(-1))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if orders["new_session"]:
        os.setsid()
    for stream, descriptor in zip(STREAMS, descriptors, strict=False):
        os.dup2(descriptor, stream)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(orders["environment"])
    open_streams()
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if orders["warnings_are_errors"]:
        warnings.simplefilter("error")
    after_fork()
    sys.argv = [orders["module"], *orders["arguments"]]
    runpy.run_module(orders["module"], run_name="__main__", alter_sys=True)


def open_streams() -> None:
    """Open the streams as Python does: line-buffered on a terminal or with PYTHONUNBUFFERED."""
    by_lines = os.isatty(1) or "PYTHONUNBUFFERED" in os.environ
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", 1 if by_lines else -1, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    main()
