"""The token server's process, and what who measures says to it."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks import certificate


class Authority:
    """A running `benchmarks.server`. `bundle`: a file with the CAs of certifi and that of its certificate."""

    def __init__(self, process_id: int, port: int, tls_port: int, bundle: Path) -> None:
        self.process_id = process_id
        self.port = port
        self.tls_port = tls_port
        self.bundle = bundle

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
    with tempfile.TemporaryDirectory() as folder:
        files = certificate.written(Path(folder))
        command = [sys.executable, "-m", "benchmarks.server", str(files.server)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                ports = map(int, process.stdout.readline().split())
                yield Authority(process.pid, *ports, files.bundle)
            finally:
                process.terminate()
