"""Work in a process of its own, whose memory and threads are nobody else's: `python -m benchmarks.child`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import django
from django.utils.module_loading import import_string

from benchmarks.authority import Authority
from tests.support.databases import ATTACH, DATABASE_URL

PORT = "OAUTH_CONNECT_BENCHMARK_PORT"
SETTINGS = {"DJANGO_SETTINGS_MODULE": "benchmarks.settings"}


class Failed(Exception):
    """A process could not measure; it has said why on standard error."""


def command(name: str, orders: dict[str, Any]) -> list[str]:
    return [sys.executable, "-m", "benchmarks.child", name, json.dumps(orders)]


def result(name: str, orders: dict[str, Any], environment: dict[str, str]) -> Any:
    finished = subprocess.run(
        command(name, orders), env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if finished.returncode:
        raise Failed(f"{name} ended with status {finished.returncode}")
    return json.loads(finished.stdout.splitlines()[-1])


def on_database(url: str, **options: Any) -> Any:
    """Measure the subjects on one database."""
    return result("benchmarks.subjects.measured", options, {**os.environ, **SETTINGS, DATABASE_URL: url})


def environment(authority: Authority) -> dict[str, str]:
    """For processes that work on the database of this one, and ask that server."""
    return {**os.environ, **SETTINGS, ATTACH: "1", PORT: str(authority.port)}


def measured(authority: Authority, work: Callable[..., Any], **orders: Any) -> Any:
    """Run a function of this package in a new process; return what it returns."""
    return result(f"{work.__module__}.{work.__qualname__}", orders, environment(authority))


if __name__ == "__main__":
    django.setup()
    print(json.dumps(import_string(sys.argv[1])(**json.loads(sys.argv[2]))))
