"""The token server's process, and what who measures says to it."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode


class Authority:
    """A running `benchmarks.server`."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, path: str, **parameters: Any) -> Any:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            client.request("GET", f"{path}?{urlencode(parameters)}", headers={"Connection": "close"})
            return json.loads(client.getresponse().read())
        finally:
            client.close()

    def prepare(self, *, grants: int, latency: float) -> None:
        """Begin anew, with so many grants; answers of the token endpoint take `latency` milliseconds."""
        self.ask("/configure", latency=latency)
        self.ask("/seed", grants=grants)

    def report(self) -> dict[str, Any]:
        return dict(self.ask("/report"))

    def sent(self) -> dict[int, float]:
        """When the latest token answer of each grant left (monotonic seconds)."""
        return {int(family): moment for family, moment in self.ask("/sent").items()}

    def generations(self) -> dict[int, int]:
        """How often each grant's refresh token has been rotated."""
        return {int(family): number for family, number in self.ask("/grants").items()}


@contextmanager
def running() -> Iterator[Authority]:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.server"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield Authority(int(process.stdout.readline()))
        finally:
            process.terminate()
