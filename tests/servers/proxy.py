"""A TCP proxy that a test can cut: what is under way breaks off, and nobody gets through any more."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from tests.support.waiting import Tally


class Proxy:
    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._open: set[socket.socket] = set()
        self._cut = False
        self._lock = threading.Lock()
        self.sent_away = Tally("a connection was sent away by the proxy")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        with self._lock:
            self._cut = True
            for end in self._open:
                shut(end)

    def restore(self) -> None:
        with self._lock:
            self._cut = False

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._join(client)

    def _join(self, client: socket.socket) -> None:
        with self._lock:
            if self._cut:
                client.close()
                self.sent_away.add()
                return
            server = self._connect()
            self._open |= {client, server}
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=pass_on, args=(source, sink), daemon=True).start()


def pass_on(source: socket.socket, sink: socket.socket) -> None:
    """Copy what comes, until one of the two ends. Then close both."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        shut(end)


def shut(end: socket.socket) -> None:
    """Wake whoever reads from it, too."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
