"""One https server that is every provider: it answers by golden exchanges, and notes what differs.

Names lead here through ``route``; the names in TLS and HTTP, the URLs and the certificates are as in
the world outside.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlencode, urlsplit

from urllib3.util import connection as urllib3_connection

from tests.contract.golden import Facts
from tests.contract.matching import FORM, JSON, Asked, differences, is_for

Exchange = Mapping[str, Any]
_open_for_real = urllib3_connection.create_connection


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class EveryProvider:
    """``facts`` are those of the exchange that is being played; ``hosts`` the ones it is with."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.facts = Facts()
        self.hosts: frozenset[str] = frozenset()
        self.asked: list[Asked] = []
        self._told: list[str] = []
        self._waiting: list[Exchange] = []
        self._lock = threading.Lock()
        tls.sni_callback = _note_name
        self._server = _HTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.socket = tls.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def begin(self, facts: Facts, hosts: frozenset[str]) -> None:
        with self._lock:
            self.facts, self.hosts = facts, hosts
            self.asked, self._told, self._waiting = [], [], []

    def route(self, address: tuple[str, int], *args: Any, **options: Any) -> socket.socket:
        """Stand in for urllib3's ``create_connection``: every name of the exchange is this server."""
        host, port = address
        if host not in self.hosts or port != 443:
            self.tell(f"a connection to {host}:{port}, which has no part in the exchange")
            raise OSError(f"the test lets nothing through to {host}:{port}")
        return _open_for_real(("127.0.0.1", self._server.server_port), *args, **options)

    def tell(self, difference: str) -> None:
        with self._lock:
            self._told.append(difference)

    @contextmanager
    def playing(self, exchanges: Iterable[Exchange]) -> Iterator[None]:
        """Expect these exchanges, each once, the optional ones perhaps; fail with all that differs."""
        with self._lock:
            self._told, self._waiting = [], list(exchanges)
            self.asked = []
        try:
            yield
        except Exception as error:
            if differing := self._differing(complete=False):
                raise AssertionError(differing) from error
            raise
        if differing := self._differing(complete=True):
            raise AssertionError(differing)

    def _differing(self, *, complete: bool) -> str:
        with self._lock:
            told = list(self._told)
            missing = [exchange["request"] for exchange in self._waiting if not exchange.get("optional")]
        if complete:
            told += [f"never asked: {one.get('method', 'GET')} {one['url']}" for one in missing]
        return "\n".join(["the exchange differs from the golden one:", *told]) if told else ""

    def answer(self, asked: Asked, server_name: str | None) -> tuple[int, dict[str, str], bytes]:
        with self._lock:
            self.asked.append(asked)
            exchange = next((one for one in self._waiting if is_for(asked, one["request"])), None)
            if exchange is not None:
                self._waiting.remove(exchange)
        if server_name != urlsplit(asked.url).hostname:
            self.tell(f"{asked}: TLS was for {server_name!r}")
        if exchange is None:
            self.tell(f"{asked}: was not expected")
            return 500, {"Content-Type": "text/plain"}, b"not in the exchange"
        for difference in differences(asked, exchange["request"], self.facts):
            self.tell(f"{asked}: {difference}")
        return self._written(asked, exchange["answer"])

    def _written(self, asked: Asked, answer: Exchange) -> tuple[int, dict[str, str], bytes]:
        status = answer.get("status", 200)
        headers = dict(answer.get("headers", {}))
        if "json" not in answer:
            return status, headers, answer.get("text", "").encode()
        body = self.facts.fill(answer["json"])
        if 200 <= status < 300 and isinstance(body, Mapping):
            self.facts.learn(body, answer.get("token_at", ()))
        if answer.get("form_unless_json_is_asked_for") and JSON not in asked.headers.get("accept", ""):
            return status, {"Content-Type": f"{FORM}; charset=utf-8", **headers}, urlencode(body).encode()
        headers = {"Content-Type": f"{JSON}; charset=utf-8", **headers}
        return status, headers, json.dumps(body).encode()


def _note_name(connection: Any, server_name: str | None, context: ssl.SSLContext) -> None:
    connection.server_name = server_name


def _handler(server: EveryProvider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or the body waits 40 ms for the acknowledgement of the head

        def respond(self) -> None:
            split = urlsplit(self.path)
            asked = Asked(
                method=self.command,
                url=f"https://{self.headers.get('Host', '')}{split.path}",
                query=split.query,
                headers={name.lower(): value for name, value in self.headers.items()},
                body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
            )
            status, headers, body = server.answer(asked, getattr(self.connection, "server_name", None))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                if status != 204 or name != "Content-Length":
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.respond)
    return Handler
