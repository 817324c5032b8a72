"""A token endpoint in a process of its own: each refresh token is good for one use, and uses are counted.

``python -m tests.servers.rotating`` prints its address and serves until its stdin ends. Any token that was
never seen is taken for an issued one. A request with a token that was told to hang is neither answered nor
counted, until it is told otherwise: whoever is killed meanwhile has spent nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import requests

ROOT = Path(__file__).resolve().parents[2]


class RotatingServer:
    """The process, as a test sees it. One serves many tests; each begins with ``reset``."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.rotating"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def reset(self) -> None:
        """Forget every token, and drop the requests that hang."""
        requests.post(f"{self.url}/reset", json=None, timeout=60).raise_for_status()

    def entry(self, **overrides: Any) -> dict[str, Any]:
        """Return the settings of the provider."""
        return {
            "client_id": "client",
            "client_secret": "secret",
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "api_base_url": f"{self.url}/api/",
            **overrides,
        }

    def hang(self, *refresh_tokens: str) -> None:
        """Let requests with these hang from now on; those that hang already for others are dropped."""
        requests.post(f"{self.url}/hang", json=list(refresh_tokens), timeout=60).raise_for_status()

    @property
    def spent(self) -> dict[str, int]:
        """How often each refresh token was used."""
        return self._stats["spent"]

    @property
    def hanging(self) -> list[str]:
        """With which tokens requests hang now, one for each request."""
        return self._stats["hanging"]

    def serves_nobody(self) -> bool:
        """Return whether no connection is open but those whose request hangs.

        It counts those too that the system has queued: they came before the connection that asks.
        """
        stats = self._stats
        return bool(stats["open"] - 1 == len(stats["hanging"]))

    @property
    def _stats(self) -> Any:
        return requests.get(f"{self.url}/stats", timeout=60).json()

    def stop(self) -> None:
        self._process.communicate(timeout=60)


class Books:
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.spent: Counter[str] = Counter()
        self.told_to_hang: list[str] = []
        self.hanging: list[str] = []
        self.open = 0

    def opened(self, count: int) -> None:
        with self.changed:
            self.open += count

    def use(self, token: str) -> dict[str, Any] | None:
        """Answer a refresh token; None where the request was left hanging."""
        with self.changed:
            if token in self.told_to_hang:
                self.hanging.append(token)
                self.changed.wait_for(lambda: token not in self.told_to_hang)
                self.hanging.remove(token)
                self.changed.notify_all()
                return None
            self.spent[token] += 1
            if self.spent[token] > 1:
                return {"error": "invalid_grant"}
        name, _, number = token.rpartition("-")
        following = f"{name}-{int(number) + 1}"
        return {
            "access_token": f"access-{following}",
            "refresh_token": following,
            "token_type": "Bearer",
            "expires_in": 3600,
        }

    def hang(self, tokens: list[str]) -> None:
        with self.changed:
            self.told_to_hang = tokens
            self.changed.notify_all()

    def reset(self) -> None:
        with self.changed:
            self.told_to_hang = []
            self.changed.notify_all()
            self.changed.wait_for(lambda: not self.hanging)
            self.spent.clear()

    def stats(self) -> dict[str, Any]:
        with self.changed:
            return {"spent": dict(self.spent), "hanging": list(self.hanging), "open": self.open}


BOOKS = Books()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or the body waits 40 ms for the acknowledgement of the head

    def do_GET(self) -> None:
        self._send(200, BOOKS.stats())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/hang":
            BOOKS.hang(json.loads(body))
            self._send(200, {})
            return
        if self.path == "/reset":
            BOOKS.reset()
            self._send(200, {})
            return
        answer = BOOKS.use(dict(parse_qsl(body.decode()))["refresh_token"])
        if answer is None:
            self.close_connection = True
            return
        self._send(400 if "error" in answer else 200, answer)

    def _send(self, status: int, content: Any) -> None:
        payload = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def process_request(self, request: Any, client_address: Any) -> None:
        BOOKS.opened(1)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            BOOKS.opened(-1)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that a killed client left."""


def main() -> None:
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
