"""A server for a redirect to this machine (RFC 8252 section 7.3). It accepts one response on a free port."""

from __future__ import annotations

import hmac
import queue
import socketserver
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

HOST = "127.0.0.1"
PATH = "/callback"
IDLE_TIMEOUT = 10  # seconds without data after which a connection is closed
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<body style="font-family: sans-serif; margin: 4em auto; max-width: 30em"><h1>{title}</h1><p>{text}</p>
"""
DONE = PAGE.format(
    title="Back to the terminal", text="The terminal has received the response. You may close this window."
)
REFUSED = PAGE.format(
    title="Unexpected response", text="This response does not belong to a login on this machine."
)
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Connection": "close",
}

Pairs = Sequence[tuple[str, str]]


class LoopbackRedirect:
    """Receives the one authorization response that has ``state``, and refuses all other requests.

    Listens on 127.0.0.1 and a free port until ``close``.
    """

    def __init__(self, state: str) -> None:
        self._state = state
        self._responses: queue.SimpleQueue[Pairs] = queue.SimpleQueue()
        self._accepted = threading.Lock()
        self._server = _Server((HOST, 0), _handler(self))
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def redirect_uri(self) -> str:
        return f"http://{HOST}:{self.port}{PATH}"

    def wait(self, seconds: float) -> Pairs | None:
        """Return the response's parameters, with repeated ones, or None if no response came in time."""
        try:
            return self._responses.get(timeout=seconds)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Stop listening. The browser has received its page by then."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def accept(self, host: str, target: str) -> Pairs | None:
        """Return the parameters of the first request with the right state, and None for any other request.

        ``host`` is the request's Host header. It is checked because another site's name may resolve to here.
        """
        split = urlsplit(target)
        pairs = parse_qsl(split.query, keep_blank_values=True)
        states = [value for name, value in pairs if name == "state"]
        matches = [hmac.compare_digest(state.encode(), self._state.encode()) for state in states]
        if host != f"{HOST}:{self.port}" or split.path != PATH or not any(matches):
            return None
        return pairs if self._accepted.acquire(blocking=False) else None

    def deliver(self, pairs: Pairs) -> None:
        """Pass the response to ``wait``, after the browser has received its page."""
        self._responses.put(pairs)


class _Server(ThreadingHTTPServer):
    # Browsers open connections that they do not use. Closing the server must not wait for them.
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = False

    def server_bind(self) -> None:
        # HTTPServer would look up its own name, which takes seconds on some machines.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing. A browser may disconnect, and a traceback would show the code."""


def _handler(redirect: LoopbackRedirect) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = IDLE_TIMEOUT
        server_version = "oauth_connect"
        sys_version = ""

        def do_GET(self) -> None:
            pairs = redirect.accept(self.headers.get("Host", ""), self.path)
            try:
                self._send_page(REFUSED if pairs is None else DONE, 400 if pairs is None else 200)
            finally:
                if pairs is not None:
                    redirect.deliver(pairs)

        def _send_page(self, page: str, status: int) -> None:
            self.send_response(status)
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(page.encode())))
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *args: Any) -> None:
            """Log nothing, because the request line contains the code."""

    return Handler
