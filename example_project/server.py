"""The threaded WSGI server that the demo's processes share."""

from __future__ import annotations

import os
import signal
import socketserver
import stat
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

if TYPE_CHECKING:
    from types import FrameType

    from django.core.handlers.wsgi import WSGIHandler

HOST = "127.0.0.1"
STDIN = 0


class LoopbackServer(ThreadedWSGIServer):
    """Listens as soon as it is created, so that its address is known before Django is set up."""

    request_queue_size = 128

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}"

    def server_bind(self) -> None:
        # HTTPServer would look up its own host name, which takes seconds on some machines.
        socketserver.TCPServer.server_bind(self)
        self.server_name = HOST
        self.server_port = self.server_address[1]
        self.setup_environ()


def listen(port: int) -> LoopbackServer:
    """Bind 127.0.0.1:port (0: any free port). Exit with a message if the port is in use."""
    try:
        # On Windows, reuse would let two servers bind the same port.
        reuse = os.name != "nt"
        return LoopbackServer((HOST, port), WSGIRequestHandler, allow_reuse_address=reuse)
    except OSError as error:
        raise SystemExit(f"Cannot listen on {HOST}:{port}: {error.strerror or error}") from error


def serve(server: LoopbackServer, application: WSGIHandler) -> None:
    """Print `ready URL`, then serve until SIGTERM, Ctrl-C or the end of a piped stdin."""
    server.set_app(application)
    signal.signal(signal.SIGTERM, _exit)
    _stop_with_parent(server)
    print(f"ready {server.url}", flush=True)
    try:
        server.serve_forever(poll_interval=0.1)
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


def _exit(signum: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _stop_with_parent(server: LoopbackServer) -> None:
    """If stdin is a pipe from the parent process, stop when it closes. It closes however the parent ends."""
    if sys.stdin is not None and stat.S_ISFIFO(os.fstat(STDIN).st_mode):
        threading.Thread(target=_await_end_of_stdin, args=(server,), daemon=True).start()


def _await_end_of_stdin(server: LoopbackServer) -> None:
    # Not sys.stdin.read(), because a thread that holds the buffer's lock disturbs the interpreter's exit.
    while os.read(STDIN, 4096):
        pass
    server.shutdown()
