"""A server for a redirect to this machine (RFC 8252 section 7.3). It accepts one response."""

from __future__ import annotations

import errno
import hmac
import os
import queue
import re
import socket
import socketserver
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from oauth_connect.protocol.net.prefetch import is_prefetch

HOST = "127.0.0.1"
PATH = "/callback"
# The name in the redirect URI -> the addresses to listen on. A browser may resolve "localhost" to either.
HOSTS: Mapping[str, tuple[str, ...]] = {
    "127.0.0.1": ("127.0.0.1",),
    "localhost": ("127.0.0.1", "::1"),
    "[::1]": ("::1",),
}
# Without "//", because http.server shortens it at the start of a path.
VALID_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+/?|/")
ATTEMPTS = 20  # to find a port that is free at both addresses
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


class PortUnavailable(OSError):
    """The port is used by another program, or this user may not listen on it."""


class LoopbackRedirect:
    """Receives the one authorization response that has ``state``, and refuses all other requests.

    Listens on the loopback addresses of ``host`` until ``close``. ``port`` 0 is any free port. ``host`` is a
    key of HOSTS. Raises PortUnavailable.
    """

    def __init__(self, state: str, *, host: str = HOST, port: int = 0, path: str = PATH) -> None:
        self._state = state
        self._host = host
        self._path = path
        self._responses: queue.SimpleQueue[Pairs] = queue.SimpleQueue()
        self._accepted = threading.Lock()
        try:
            self._servers = _listening(HOSTS[host], port, _handler(self))
        except OSError as error:
            raise PortUnavailable(error.errno, error.strerror) from None
        self.port = self._servers[0].server_port
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            for server in self._servers
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def redirect_uri(self) -> str:
        return redirect_uri(self._host, self.port, self._path)

    def wait(self, seconds: float) -> Pairs | None:
        """Return the response's parameters, with repeated ones, or None if no response came in time."""
        try:
            return self._responses.get(timeout=seconds)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Stop listening. The browser has received its page by then."""
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()

    def accept(self, host: str, target: str) -> Pairs | None:
        """Return the parameters of the first request with the right state, and None for any other request.

        ``host`` is the request's Host header. It is checked because another site's name may resolve to here.
        """
        split = urlsplit(target)
        pairs = parse_qsl(split.query, keep_blank_values=True)
        states = [value for name, value in pairs if name == "state"]
        matches = [hmac.compare_digest(state.encode(), self._state.encode()) for state in states]
        if host.lower() not in self._names or split.path != self._path or not any(matches):
            return None
        return pairs if self._accepted.acquire(blocking=False) else None

    @property
    def _names(self) -> set[str]:
        """Return the values that the Host header may have. Browsers leave port 80 out."""
        return {f"{self._host}:{self.port}", *([self._host] if self.port == 80 else [])}

    def deliver(self, pairs: Pairs) -> None:
        """Pass the response to ``wait``, after the browser has received its page."""
        self._responses.put(pairs)


def redirect_uri(host: str = HOST, port: int = 0, path: str = PATH) -> str:
    """Return the redirect URI; without a port for port 0, as it is registered (RFC 8252 section 7.3)."""
    return f"http://{host}{f':{port}' if port else ''}{path}"


def _listening(addresses: Sequence[str], port: int, handler: type[BaseHTTPRequestHandler]) -> list[_Server]:
    """Listen on one port of each address. Leave an address out that this machine does not have."""
    for attempt in range(ATTEMPTS):
        servers: list[_Server] = []
        try:
            for address in addresses:
                with suppress(_NoAddress):
                    servers.append(_Server((address, servers[0].server_port if servers else port), handler))
            if servers:
                return servers
            raise OSError(errno.EADDRNOTAVAIL, "this machine has no such loopback address")
        except OSError as error:
            for server in servers:
                server.server_close()
            # A free port of the first address may be taken at the second.
            if port or error.errno != errno.EADDRINUSE or attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("not reached")


class _NoAddress(OSError):
    """This machine has no such address: IPv6 is turned off."""


class _Server(ThreadingHTTPServer):
    # Browsers open connections that they do not use. Closing the server must not wait for them.
    daemon_threads = True
    block_on_close = False
    # So that a fixed port can be used again immediately. On Windows it would allow a second listener.
    allow_reuse_address = os.name == "posix"

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            super().__init__(address, handler)
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise _NoAddress(error.errno, error.strerror) from None
            raise

    def server_bind(self) -> None:
        # HTTPServer would look up its own name, which takes seconds on some machines.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing. A browser may disconnect, and a traceback would show the code."""


def _handler(redirect: LoopbackRedirect) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = IDLE_TIMEOUT
        server_version = "oauth_connect"
        sys_version = ""

        def do_GET(self) -> None:
            if is_prefetch(self.headers):
                self._send_page("", 503)  # the browser asks again when its user opens the page
                return
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
