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

from benchmarks import machine
from benchmarks.authority import Authority
from tests.support.databases import ATTACH, DATABASE_URL

PORT = "OAUTH_CONNECT_BENCHMARK_PORT"
API = "OAUTH_CONNECT_BENCHMARK_API"
SETTINGS = {"DJANGO_SETTINGS_MODULE": "benchmarks.settings"}

OTHERS_SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "benchmarks.others.settings",
    # requests-oauthlib and Authlib accept no http without these.
    "OAUTHLIB_INSECURE_TRANSPORT": "1",
    "AUTHLIB_INSECURE_TRANSPORT": "1",
}


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


def among_others(authority: Authority, work: Callable[..., Any], *, tls: bool = False, **orders: Any) -> Any:
    """Run a function in a new process whose site also has the other packages that are installed.

    The client and the server each have a core of their own, if there are two. `tls`: the API is https.
    Every client of the process trusts the same CAs: those of certifi and the server's.
    """
    settings = {**environment(authority), **OTHERS_SETTINGS}
    if tls:
        bundle = str(authority.bundle)
        settings[API] = f"https://127.0.0.1:{authority.tls_port}"
        settings |= {"REQUESTS_CA_BUNDLE": bundle, "SSL_CERT_FILE": bundle}
    with machine.apart_from(authority.process_id):
        return result(f"{work.__module__}.{work.__qualname__}", orders, settings)


if __name__ == "__main__":
    django.setup()
    print(json.dumps(import_string(sys.argv[1])(**json.loads(sys.argv[2]))))
