"""The servers that tests use: the address of each, and whether it responds.

An environment variable names a server's URL. If it is unset, the usual local address is tried, and a server
that does not respond is skipped. If it is set, the server must respond. If it is empty, the server is not
used. ``python -m tests.support.services`` prints which servers do not respond. If there are any, it exits
with 1.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from urllib.parse import unquote, urlsplit

TIMEOUT = 5  # seconds for a response


def connect_to_mariadb(url: str) -> None:
    pymysql = importlib.import_module("pymysql")
    split = urlsplit(url)
    pymysql.connect(
        host=split.hostname,
        port=split.port or 3306,
        user=unquote(split.username or ""),
        password=unquote(split.password or ""),
        connect_timeout=TIMEOUT,
    ).close()


def connect_to_redis(url: str) -> None:
    redis = importlib.import_module("redis")
    with redis.Redis.from_url(url, socket_connect_timeout=TIMEOUT, socket_timeout=TIMEOUT) as client:
        client.ping()


def connect_to_rabbitmq(url: str) -> None:
    kombu = importlib.import_module("kombu")
    with kombu.Connection(url, connect_timeout=TIMEOUT) as connection:
        connection.connect()


def check_programs(daemon: str) -> None:
    """Check that the two programs of a test's own keyring exist. The test starts them later."""
    for program in (daemon, "dbus-daemon"):
        if shutil.which(program) is None:
            raise FileNotFoundError(program)


def find_chromium(names: str) -> str:
    """Return the path of the first of these programs that exists. Raises FileNotFoundError."""
    for name in names.split():
        if found := shutil.which(name):
            return found
    raise FileNotFoundError(names)


def check_browser(names: str) -> None:
    importlib.import_module("playwright")
    find_chromium(names)


@dataclass(frozen=True)
class Service:
    name: str
    variable: str
    usual: str
    connect: Callable[[str], None]

    @property
    def url(self) -> str:
        return os.environ.get(self.variable, self.usual)

    @property
    def answers(self) -> bool:
        return missing(self, self.url) == ""

    @property
    def named(self) -> bool:
        """Return whether the variable names the server."""
        return bool(os.environ.get(self.variable))

    @property
    def absence(self) -> str:
        """Return why the server is not used, or an empty string."""
        return missing(self, self.url)


@cache
def missing(service: Service, url: str) -> str:
    if not url:
        return f"{service.name} ({service.variable} is empty)"
    try:
        service.connect(url)
    except Exception as error:  # of a driver, or because no driver is installed
        return f"{service.name} ({service.variable}, else its usual local address: {type(error).__name__})"
    return ""


MARIADB = Service(
    "MariaDB", "OAUTH_CONNECT_TEST_MARIADB_URL", "mariadb://root@127.0.0.1:3306/test", connect_to_mariadb
)
REDIS = Service("Redis", "OAUTH_CONNECT_TEST_REDIS_URL", "redis://127.0.0.1:6379/0", connect_to_redis)
RABBITMQ = Service(
    "RabbitMQ",
    "OAUTH_CONNECT_TEST_RABBITMQ_URL",
    "amqp://guest:guest@127.0.0.1:5672//",
    connect_to_rabbitmq,
)
SECRET_SERVICE = Service(
    "gnome-keyring", "OAUTH_CONNECT_TEST_SECRET_SERVICE", "gnome-keyring-daemon", check_programs
)
CHROMIUM = Service(
    "Chromium", "OAUTH_CONNECT_TEST_CHROMIUM", "chromium chromium-browser google-chrome", check_browser
)
ALL = (MARIADB, REDIS, RABBITMQ, SECRET_SERVICE, CHROMIUM)


def main() -> int:
    absences = [service.absence for service in ALL if service.absence]
    for absence in absences:
        print(f"Missing: {absence}.")
    return int(bool(absences))


if __name__ == "__main__":
    sys.exit(main())
