"""A server that answers as it is told to: wrong, late, in part, or not at all.

It runs in a thread, on a real socket, and remembers what it was asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.support.waiting import TIMEOUT


@dataclass
class Answer:
    """``body``: bytes go out as they are, anything else as JSON; ``repeat`` times over.

    ``delay``: seconds before the first byte; ``hold``: no byte before this is set; ``until``:
    none before this, called when the request has come, returns.
    ``silent``: no byte at all, and no end of the connection, until the server is closed.
    ``drip``: seconds between single bytes of the body, and ``head_drip``: of two hundred header lines.
    ``cut``: how many bytes of the body are sent before the connection is dropped (-1: not even a status).
    ``reset``: dropped with a TCP reset, without a word, or after the ``beginning`` of a response.
    """

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    hold: threading.Event | None = None
    # Its repr is part of some tests' ids.
    until: Callable[[], object] | None = field(default=None, repr=False)
    silent: bool = field(default=False, repr=False)
    drip: float = 0.0
    head_drip: float = 0.0
    cut: int | None = None
    reset: bool = False
    beginning: bytes = field(default=b"", repr=False)
    repeat: int = 1

    @property
    def payload(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class Recorded:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # with five, the default, some of many who come at once wait for seconds


class ScriptedServer:
    """``script[path]`` is the queue of answers for a path; the last one stays.

    ``tls``: the server's side of TLS, where it is to be https.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.script: dict[str, deque[Answer]] = defaultdict(deque)
        self.requests: list[Recorded] = []
        self.closing = threading.Event()
        self.accepted: list[socket.socket] = []
        self._asked = threading.Condition()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.port = self._server.server_port
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        """Accept until closed. (``serve_forever`` would poll for its end, in each of a thousand tests.)"""
        while not self.closing.is_set():
            with contextlib.suppress(OSError):  # a client that broke off its TLS handshake
                connection, address = self._server.get_request()
                self.accepted.append(connection)
                self._server.process_request(connection, address)

    def on(self, path: str, *answers: Answer) -> None:
        """Replace the answers of a path."""
        with self._asked:
            self.script[path] = deque(answers)

    def asked(self, path: str) -> list[Recorded]:
        with self._asked:
            return [request for request in self.requests if request.path == path]

    def wait_for(self, path: str, count: int = 1) -> list[Recorded]:
        """Wait until a path has been asked so many times; return what it was asked."""
        with self._asked:
            self._asked.wait_for(lambda: len(self.asked(path)) >= count, TIMEOUT)
            asked = self.asked(path)
        assert len(asked) >= count, f"{path} was asked {len(asked)} times in {TIMEOUT:.0f} s, not {count}"
        return asked

    async def awaited(self, path: str, count: int = 1) -> list[Recorded]:
        """Wait as ``wait_for`` does, and leave the event loop to others meanwhile."""
        return await asyncio.to_thread(self.wait_for, path, count)

    def take(self, request: Recorded) -> Answer:
        with self._asked:
            self.requests.append(request)
            self._asked.notify_all()
            queue = self.script[request.path]
            if not queue:
                return Answer(404)
            return queue.popleft() if len(queue) > 1 else queue[0]

    def close(self) -> None:
        self.closing.set()
        # So that there is one more to accept.
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        for connection in self.accepted:  # a client may keep it
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()


def _handler(server: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or the body waits 40 ms for the acknowledgement of the head

        def answer(self) -> None:
            split = urlsplit(self.path)
            body = _received(self)
            query = dict(parse_qsl(split.query))
            recorded = Recorded(self.command, split.path, query, dict(self.headers), body)
            answer = server.take(recorded)
            if answer.silent:
                server.closing.wait()
                self.close_connection = True
                return
            _send(self, answer)

        def log_message(self, *args: Any) -> None:
            pass

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT"):
        setattr(Handler, f"do_{method}", Handler.answer)

    return Handler


def _received(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding") != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    body = b""
    while size := int(handler.rfile.readline(), 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body


def _send(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
    time.sleep(answer.delay)
    if answer.hold is not None:
        answer.hold.wait(2 * TIMEOUT)  # longer than anybody waits for what happens meanwhile
    if answer.until is not None:
        answer.until()
    try:
        if answer.cut == -1:
            handler.close_connection = True
            handler.connection.close()
            return
        if answer.reset:
            handler.wfile.write(answer.beginning)
            _reset(handler)
            if answer.beginning:  # the socket is closed here, because the server would send FIN first
                handler.rfile.close()
                handler.connection.close()
            return
        _send_head(handler, answer)
        _send_body(handler, answer)
    except (BrokenPipeError, ConnectionResetError):
        handler.close_connection = True


def _reset(handler: BaseHTTPRequestHandler) -> None:
    """Close at once and with RST: a lingering time of zero throws away what is under way."""
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _send_head(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
    handler.send_response(answer.status)
    headers = {"Content-Type": "application/json", **answer.headers}
    headers["Content-Length"] = str(len(answer.payload) * answer.repeat)
    for name, value in headers.items():
        handler.send_header(name, value)
    if answer.head_drip:
        handler.flush_headers()
        for _ in range(200):
            handler.wfile.write(b"X-Slow: 1\r\n")
            time.sleep(answer.head_drip)
    handler.end_headers()
    handler.wfile.flush()


def _send_body(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
    payload = answer.payload if answer.cut is None else answer.payload[: answer.cut]
    if answer.drip:
        for position in range(len(payload)):
            handler.wfile.write(payload[position : position + 1])
            handler.wfile.flush()
            time.sleep(answer.drip)
    else:
        for _ in range(answer.repeat):
            handler.wfile.write(payload)
        handler.wfile.flush()
    if answer.cut is not None:
        handler.close_connection = True
