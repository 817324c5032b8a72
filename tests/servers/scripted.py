"""A server that answers as it is told to: wrong, late, in part, or not at all.

It runs in a thread, on a real socket, and remembers what it was asked.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Answer:
    """``body``: bytes go out as they are, anything else as JSON.

    ``delay``: seconds before the first byte. ``drip``: seconds between single bytes of the body.
    ``cut``: how many bytes of the body are sent before the connection is dropped (-1: not even a status).
    """

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0
    cut: int | None = None

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


class ScriptedServer:
    """``script[path]`` is the queue of answers for a path; the last one stays."""

    def __init__(self) -> None:
        self.script: dict[str, deque[Answer]] = defaultdict(deque)
        self.requests: list[Recorded] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def on(self, path: str, *answers: Answer) -> None:
        """Replace the answers of a path."""
        with self._lock:
            self.script[path] = deque(answers)

    def asked(self, path: str) -> list[Recorded]:
        with self._lock:
            return [request for request in self.requests if request.path == path]

    def take(self, request: Recorded) -> Answer:
        with self._lock:
            self.requests.append(request)
            queue = self.script[request.path]
            if not queue:
                return Answer(404)
            return queue.popleft() if len(queue) > 1 else queue[0]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(server: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            split = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = dict(parse_qsl(split.query))
            recorded = Recorded(self.command, split.path, query, dict(self.headers), body)
            _send(self, server.take(recorded))

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def _send(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
    time.sleep(answer.delay)
    try:
        if answer.cut == -1:
            handler.close_connection = True
            handler.connection.close()
            return
        _send_head(handler, answer)
        _send_body(handler, answer)
    except (BrokenPipeError, ConnectionResetError):
        handler.close_connection = True


def _send_head(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
    handler.send_response(answer.status)
    headers = {"Content-Type": "application/json", **answer.headers}
    headers["Content-Length"] = str(len(answer.payload))
    for name, value in headers.items():
        handler.send_header(name, value)
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
        handler.wfile.write(payload)
        handler.wfile.flush()
    if answer.cut is not None:
        handler.close_connection = True
