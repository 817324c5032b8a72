"""HTTP on loopback: one thread accepts connections, and each connection has a thread."""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from oauth_connect.testing.server.recorded import ReceivedRequest
from oauth_connect.testing.server.responses import Response

HOST = "127.0.0.1"
BODY_LIMIT = 16 * 1024 * 1024  # bytes
NO_BODY = (204, 304)  # the statuses whose response has none (RFC 9110)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
Answer = Callable[[ReceivedRequest], Response]


class Listener:
    """Serves on 127.0.0.1 until it is closed. Raises OSError if the port is in use."""

    def __init__(self, port: int, answer: Answer) -> None:
        self._closing = threading.Event()
        self._server = _Server((HOST, port), _handler(answer))
        self.url = f"http://{HOST}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._serve, name="fake provider", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close every connection, also one whose response is held, and wait for the thread."""
        self._closing.set()
        with contextlib.suppress(OSError):  # wakes the thread, which waits for a connection
            socket.create_connection((HOST, self._server.server_port)).close()
        self._thread.join()
        self._server.end_connections()
        self._server.server_close()

    def _serve(self) -> None:
        """Accept until closed. (``serve_forever`` would notice its end half a second later.)"""
        while not self._closing.is_set():
            with contextlib.suppress(OSError):
                connection, address = self._server.get_request()
                self._server.process_request(connection, address)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # the default is 5, with which many clients wait seconds for a connection
    allow_reuse_address = os.name == "posix"  # elsewhere it means what allow_reuse_port means
    allow_reuse_port = False  # or a second server could have the same port, and get some of the requests

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without the look-up of this machine's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.socket.getsockname()[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._connections.discard(request)
            self._changed.notify_all()

    def end_connections(self) -> None:
        """Close the connections that clients keep, and wait for their threads."""
        with self._changed:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._connections, timeout=10)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be silent about a client that closed its connection. The handler answers other errors."""


def _handler(answer: Answer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "oauth_connect.testing"
        sys_version = ""
        disable_nagle_algorithm = True  # else a body waits for the acknowledgement of its head

        def respond(self) -> None:
            body = _body(self)
            if body is None:
                self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                return
            try:
                request = ReceivedRequest.received(self.command, self.path, dict(self.headers), body)
            except ValueError:  # a target such as "http://["
                self.send_error(HTTPStatus.BAD_REQUEST)
                return
            response = answer(request)
            if response.delivery == "held":
                _hold(self)
            else:
                _send(self, response)

        def log_message(self, *arguments: Any) -> None:
            """Write nothing: a request line can have a code."""

    for method in METHODS:
        setattr(Handler, f"do_{method}", Handler.respond)
    return Handler


def _body(handler: BaseHTTPRequestHandler) -> bytes | None:
    """Return the request's body, or None if it is too long or malformed."""
    try:
        if handler.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return _chunked(handler)
        length = int(handler.headers.get("Content-Length") or 0)
    except ValueError:
        length = -1
    if 0 <= length <= BODY_LIMIT:
        body = handler.rfile.read(length)
        if len(body) == length:  # else the client has gone, and the rest of its request is unknown
            return body
    handler.close_connection = True
    return None


def _chunked(handler: BaseHTTPRequestHandler) -> bytes | None:
    """Read chunks (RFC 9112 section 7.1). Raises ValueError for a malformed one."""
    body = b""
    while size := int(handler.rfile.readline().partition(b";")[0], 16):
        if size < 0 or len(body) + size > BODY_LIMIT:
            raise ValueError("a chunk is too long")
        body += handler.rfile.read(size)
        handler.rfile.readline()
    while handler.rfile.readline().strip():
        pass  # trailers
    return body


def _hold(handler: BaseHTTPRequestHandler) -> None:
    """Send nothing until the client closes the connection, or until the server ends."""
    handler.close_connection = True
    with contextlib.suppress(OSError):
        while handler.connection.recv(4096):
            pass


def _send(handler: BaseHTTPRequestHandler, response: Response) -> None:
    is_cut = response.delivery == "cut"
    # A body of which a part is missing needs a byte at least.
    body = response.body or (b" " if is_cut else b"")
    if response.status in NO_BODY:  # the client would read a body as the start of the next response
        body = b""
    handler.send_response(response.status, response.reason or None)
    if body:
        handler.send_header("Content-Type", response.content_type)
    if response.status not in NO_BODY:
        handler.send_header("Content-Length", str(len(body)))
    for name, value in response.headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    if is_cut:
        handler.close_connection = True
    if handler.command != "HEAD":
        handler.wfile.write(body[: len(body) // 2] if is_cut else body)
