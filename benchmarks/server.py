"""A token endpoint that is strict about rotation and never in the way: `python -m benchmarks.server [FILE]`.

It prints its port for http and its port for https, which is 0 without a FILE of a certificate and its key.
A refresh token works once; a second use is counted, refused, and ends the grant (RFC 9700 section 4.14.2).
What becomes of a request is decided when it arrives; the answer leaves `latency`
milliseconds later, and when it left is kept on the monotonic clock, which all processes of a machine share.

`POST /token`, `GET /api`, `GET /user`; and for who measures: `/configure`, `/seed`, `/report`, `/sent`,
`/grants`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

FILLING = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" * 16
ACCESS_TOKEN_LENGTH = 800
PROFILE = {"id": 1, "login": "ada", "name": "Ada", "email": "ada@example.com"}
SERVERS: list[asyncio.Server] = []  # nothing else keeps them
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}


def access_token(family: int, generation: int) -> str:
    return f"access.{family}.{generation}.{FILLING}"[:ACCESS_TOKEN_LENGTH]


def refresh_token(family: int, generation: int) -> str:
    return f"refresh.{family}.{generation}"


@dataclass(slots=True)
class Grant:
    """One authorization. `generation`: how often its refresh token has been rotated."""

    generation: int = 0
    revoked: bool = False


@dataclass
class Provider:
    """What the server remembers."""

    latency: float = 0.0
    lifetime: int = 3600
    grants: dict[int, Grant] = field(default_factory=dict)
    sent: dict[int, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    under_way: int = 0

    def configure(self, latency: str = "0", lifetime: str = "3600") -> dict[str, Any]:
        """Set how the token endpoint behaves (milliseconds, seconds), and forget everything else."""
        self.__init__(latency=float(latency), lifetime=int(lifetime))  # type: ignore[misc]
        return {}

    def seed(self, grants: str) -> dict[str, Any]:
        self.grants = {family: Grant() for family in range(int(grants))}
        return {}

    def report(self) -> dict[str, Any]:
        return {**self.counts, "processor_seconds": time.process_time()}

    def rotate(self, form: Mapping[str, str]) -> tuple[int, dict[str, Any], int | None]:
        """Answer a token request: status, document, and whose it was. A code is of the first grant."""
        self.counts["token_requests"] += 1
        if form.get("grant_type") == "authorization_code":
            return self._issue(0)
        try:
            _, family, generation = form["refresh_token"].split(".")
            grant = self.grants[int(family)]
        except (KeyError, ValueError):
            return self._refuse("unknown")
        if grant.revoked or grant.generation != int(generation):
            grant.revoked = True
            return self._refuse("reuses")
        self.counts["rotations"] += 1
        return self._issue(int(family))

    def _issue(self, family: int) -> tuple[int, dict[str, Any], int]:
        grant = self.grants[family]
        grant.generation += 1
        document = {
            "access_token": access_token(family, grant.generation),
            "token_type": "Bearer",
            "expires_in": self.lifetime,
            "refresh_token": refresh_token(family, grant.generation),
        }
        return 200, document, family

    def _refuse(self, why: str) -> tuple[int, dict[str, Any], None]:
        self.counts[why] += 1
        return 400, {"error": "invalid_grant"}, None

    def accepts(self, authorization: str) -> bool:
        self.counts["calls"] += 1
        token = authorization.removeprefix("Bearer ")
        try:
            _, family, generation, _ = token.split(".", 3)
            grant = self.grants[int(family)]
        except (KeyError, ValueError):
            return False
        return not grant.revoked and grant.generation == int(generation)


class Exchange(asyncio.Protocol):
    """One connection: as much of HTTP/1.1 as its clients speak, one request after the other."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.received = b""
        self.commands: dict[str, Callable[..., Any]] = {
            "/configure": provider.configure,
            "/seed": provider.seed,
            "/report": provider.report,
            "/sent": lambda: provider.sent,
            "/grants": lambda: {family: grant.generation for family, grant in provider.grants.items()},
        }

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, rest = self.received.partition(b"\r\n\r\n")
        if not end:
            return
        request, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if len(rest) < (length := int(headers.get("content-length", 0))):
            return
        self.received = rest[length:]
        self._answer(urlsplit(request.split(" ")[1]), headers, rest[:length].decode("latin-1"))

    def _answer(self, target: Any, headers: Mapping[str, str], body: str) -> None:
        closing = headers.get("connection", "").lower() == "close"
        if target.path == "/token":
            self._token(body, closing)
        elif target.path == "/api":
            status = 200 if self.provider.accepts(headers.get("authorization", "")) else 401
            self._send(status, {"id": 1, "name": "a resource"}, closing)
        elif target.path == "/user":
            status = 200 if self.provider.accepts(headers.get("authorization", "")) else 401
            self._send(status, PROFILE, closing)
        elif command := self.commands.get(target.path):
            self._send(200, command(**dict(parse_qsl(target.query))), closing)
        else:
            self._send(404, {}, closing)

    def _token(self, body: str, closing: bool) -> None:
        provider = self.provider
        status, document, family = provider.rotate(dict(parse_qsl(body)))
        provider.under_way += 1
        provider.counts["most_at_once"] = max(provider.counts["most_at_once"], provider.under_way)

        def send() -> None:
            provider.under_way -= 1
            if family is not None:
                provider.sent[family] = time.monotonic()
            self._send(status, document, closing)

        if provider.latency:
            asyncio.get_running_loop().call_later(provider.latency / 1000, send)
        else:
            send()

    def _send(self, status: int, document: Any, closing: bool) -> None:
        body = json.dumps(document).encode()
        head = (
            f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: application/json\r\n"
            f"Cache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        if not self.transport.is_closing():
            self.transport.write(head.encode() + body)
            if closing:
                self.transport.close()


async def serve(certificate: str | None) -> None:
    provider = Provider()
    ports = [await listen(provider, None), 0]
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        ports[1] = await listen(provider, tls)
    print(*ports, flush=True)
    await asyncio.Event().wait()


async def listen(provider: Provider, tls: ssl.SSLContext | None) -> int:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Exchange(provider), "127.0.0.1", 0, backlog=1024, ssl=tls)
    SERVERS.append(server)
    return int(server.sockets[0].getsockname()[1])


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:] or [None]))
