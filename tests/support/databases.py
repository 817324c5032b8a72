"""The databases of a test run. The processes that a test starts use the same ones.

A run has a name. An environment variable passes it to child processes. The test databases (files, or on a
server) have that name, so that parallel runs do not share them. Each worker of pytest-xdist has databases
of its own, and passes its name in the same way.
"""

import importlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

DATABASE_URL = "OAUTH_CONNECT_TEST_DATABASE_URL"
RUN = "OAUTH_CONNECT_TEST_RUN"
WORKER = "PYTEST_XDIST_WORKER"
ATTACH = "OAUTH_CONNECT_TEST_ATTACH"

ROOT = Path(__file__).resolve().parents[2]
ALIASES = ("default", "other")

MYSQL = "django.db.backends.mysql"
POSTGRESQL = "django.db.backends.postgresql"
SQLITE = "django.db.backends.sqlite3"
ENGINES = {"mariadb": MYSQL, "mysql": MYSQL, "postgres": POSTGRESQL, "postgresql": POSTGRESQL}


def configured() -> dict[str, dict[str, Any]]:
    """Return the DATABASES setting: SQLite, or the server that OAUTH_CONNECT_TEST_DATABASE_URL names."""
    run = run_name()
    url = urlsplit(os.environ.get(DATABASE_URL, ""))
    databases = {alias: database(url, run, alias) for alias in ALIASES}
    if os.environ.get(ATTACH):
        for settings in databases.values():
            settings["NAME"] = attached(settings)
    return databases


def attached(settings: dict[str, Any]) -> str:
    """Return the name of the existing test database. SQLite fails if there is none, and creates no file."""
    name = str(settings["TEST"]["NAME"])
    return f"file:{name}?mode=rw" if settings["ENGINE"] == SQLITE else name


def worker_environment() -> dict[str, str]:
    """Return the environment for a process that uses this run's test databases.

    PYTHONUNBUFFERED is left out. On a machine that sets it, it would hide a missing flush.
    """
    own = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**own, "DJANGO_SETTINGS_MODULE": "tests.settings", ATTACH: "1"}


def run_name() -> str:
    """Return the name of this run and of the worker. The run of a child process is its parent's."""
    run = os.environ.setdefault(RUN, f"oauth_connect_{secrets.token_hex(4)}")
    worker = os.environ.get(WORKER)
    return f"{run}_{worker}" if worker else run


def database(url: SplitResult, run: str, alias: str) -> dict[str, Any]:
    if url.scheme in {"", "sqlite"}:
        return sqlite_database(run, alias)
    return server_database(url, run, alias)


def sqlite_database(run: str, alias: str) -> dict[str, Any]:
    return {
        "ENGINE": SQLITE,
        "NAME": ":memory:",
        "OPTIONS": {
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
        },
        # A file instead of memory (Django's default), because other processes connect to it.
        "TEST": {"NAME": str(Path(tempfile.gettempdir(), f"test_{run}_{alias}.sqlite3"))},
    }


def server_database(url: SplitResult, run: str, alias: str) -> dict[str, Any]:
    query = {key: values[-1] for key, values in parse_qs(url.query).items()}
    engine = ENGINES[url.scheme]
    if engine == MYSQL:
        use_pymysql()
        # Otherwise PyMySQL reads the machine's certificates for each connection, for tens of milliseconds.
        query.setdefault("ssl_disabled", "1")
    return {
        "ENGINE": engine,
        "NAME": url.path.removeprefix("/"),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        # ``host`` in the query is the folder of a Unix socket.
        "HOST": query.pop("host", url.hostname or ""),
        "PORT": str(url.port or ""),
        "OPTIONS": query,
        "TEST": {"NAME": f"test_{run}_{alias}"},
    }


def use_pymysql() -> None:
    """Use PyMySQL instead of mysqlclient, which needs a compiler."""
    importlib.import_module("pymysql").install_as_MySQLdb()
