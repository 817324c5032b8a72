"""A redirect to this machine (RFC 8252 section 7.3): one free port, one answer, then closed."""

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
STALL = 10  # seconds that a connection may say nothing
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<body style="font-family: sans-serif; margin: 4em auto; max-width: 30em"><h1>{title}</h1><p>{text}</p>
"""
DONE = PAGE.format(title="Back to the terminal", text="It has got the answer. You may close this window.")
REFUSED = PAGE.format(
    title="Not expected here", text="This answer does not belong to a login on this machine."
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
    """Receives the one authorization response that bears ``state``; whatever else comes is sent away.

    Listens from the moment it is made, on 127.0.0.1 and a port that was free; ``close`` ends that.
    """

    def __init__(self, state: str) -> None:
        self._state = state
        self._answers: queue.SimpleQueue[Pairs] = queue.SimpleQueue()
        self._taken = threading.Lock()
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
        """Return the answer's parameters, each as often as it came; None where none came in that time."""
        try:
            return self._answers.get(timeout=seconds)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Stop listening. The answer's page has been sent by then."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def taken(self, host: str, target: str) -> Pairs | None:
        """Return the parameters of the answer, to the first who asks with it; None for anything else.

        ``host``: of the request's header; a page elsewhere could have its own name lead here.
        """
        split = urlsplit(target)
        pairs = parse_qsl(split.query, keep_blank_values=True)
        states = [value for name, value in pairs if name == "state"]
        ours = [hmac.compare_digest(one.encode(), self._state.encode()) for one in states]
        if host != f"{HOST}:{self.port}" or split.path != PATH or not any(ours):
            return None
        return pairs if self._taken.acquire(blocking=False) else None

    def deliver(self, pairs: Pairs) -> None:
        """Hand the answer to who waits for it, once its page has been sent."""
        self._answers.put(pairs)


class _Server(ThreadingHTTPServer):
    # Browsers open connections on which they say nothing; the end does not wait for those.
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = False

    def server_bind(self) -> None:
        # HTTPServer would look its own name up, which takes seconds on some machines.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a browser that goes away is no fault, and a traceback would show the code."""


def _handler(redirect: LoopbackRedirect) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = STALL
        server_version = "oauth_connect"
        sys_version = ""

        def do_GET(self) -> None:
            pairs = redirect.taken(self.headers.get("Host", ""), self.path)
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
            """Nothing: the request line holds the code."""

    return Handler
