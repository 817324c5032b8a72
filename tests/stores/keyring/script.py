"""A command-line tool that knows no Django: ``python -m tests.stores.keyring.script``.

Its orders are one line of JSON; it gets ready, says so, and begins when a second line comes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

from oauth_connect.errors import KeyringUnavailable
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.stores import keyring
from tests.support import processes


class Script:
    """The process, as a test sees it."""

    def __init__(self, entry: dict[str, Any], task: str = "get", *, threads: int = 1, **orders: Any) -> None:
        environment = {name: value for name, value in os.environ.items() if "DJANGO" not in name}
        self.process = processes.start(
            "tests.stores.keyring.script",
            environment=environment,
            preloaded="tests.stores.keyring.preloaded",
            warnings_are_errors=True,
        )
        self._tell(json.dumps({"entry": entry, "task": task, "threads": threads, **orders}))
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def go(self) -> Script:
        self._tell("go")
        return self

    def results(self) -> list[Any]:
        output, _ = self.process.communicate(timeout=120)
        assert self.process.returncode == 0
        return [json.loads(line) for line in output.splitlines()]

    def status(self) -> int:
        self.process.communicate(timeout=120)
        return self.process.wait()

    def _tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()


def main() -> None:
    orders = json.loads(sys.stdin.readline())
    provider = Provider.from_mapping("rotating", orders["entry"])
    print("ready", flush=True)
    sys.stdin.readline()
    if orders["task"] == "keep":
        keep(provider, orders["refresh_token"])
        return
    with ThreadPoolExecutor(orders["threads"]) as callers:
        asked = call_with_httpx if orders["task"] == "httpx" else call
        calls = [callers.submit(tried, asked, provider) for _ in range(orders["threads"])]
    # By one thread: the lines of several that print at once run into one another.
    for result in calls:
        print(json.dumps(result.result()), flush=True)


def keep(provider: Provider, refresh_token: str) -> None:
    obtained_at = datetime.now(UTC)
    ends = obtained_at + timedelta(seconds=3600)
    try:
        keyring.keep(provider, Token("access", obtained_at, refresh_token, expires_at=ends))
    except KeyringUnavailable as error:
        print(json.dumps(str(error)), flush=True)


def tried(asked: Callable[[Provider], int], provider: Provider) -> list[Any]:
    try:
        said: Any = asked(provider)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    return [said, "django" in sys.modules]


def call(provider: Provider) -> int:
    return keyring.session_for(provider, http_timeout=50).get("whatever").status_code


def call_with_httpx(provider: Provider) -> int:
    # Imported here: the other tasks stand without it.
    httpx, protocol = import_module("httpx"), import_module("oauth_connect.protocol.httpx")
    source = keyring.source_for(provider, http_timeout=50)
    with httpx.Client(auth=protocol.TokenAuth(source), base_url=source.provider.api_base_url) as http:
        status: int = http.get("whatever").status_code
    return status


if __name__ == "__main__":
    main()
