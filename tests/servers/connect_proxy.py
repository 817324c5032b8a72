"""An HTTP proxy for CONNECT (RFC 9110 section 9.3.6).

``heads``: the requests that it got; ``certificates``: whether each client showed one.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

from tests.servers.proxy import pass_on, shut


class ConnectProxy:
    """``tls``: the server's side of TLS, where the proxy itself is to be reached by https."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.heads: list[str] = []
        self.certificates: list[bool] = []
        self._tls = tls
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.authority = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        shut(self._listener)
        for end in self._open:
            shut(end)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._tunnel, args=(client,), daemon=True).start()

    def _tunnel(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
                self.certificates.append(bool(client.getpeercert(binary_form=True)))
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)
            self.heads.append(head.decode())
            host, _, port = head.split()[1].decode().rpartition(":")
            server = socket.create_connection((host, int(port)))
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            self._open += [client, server]
            threading.Thread(target=pass_on, args=(server, client), daemon=True).start()
            pass_on(client, server)
