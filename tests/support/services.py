"""The servers beside the test process: where each is looked for, and whether it answers.

A variable names a server's URL. Unset, the usual local address is tried, and what does not answer there
is left out; set, the server has to answer; empty, it is not used. ``python -m tests.support.services`` prints
what does not answer, and ends with 1 where anything does not.
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

PATIENCE = 5  # seconds for an answer


def connect_to_mariadb(url: str) -> None:
    pymysql = importlib.import_module("pymysql")
    split = urlsplit(url)
    pymysql.connect(
        host=split.hostname,
        port=split.port or 3306,
        user=unquote(split.username or ""),
        password=unquote(split.password or ""),
        connect_timeout=PATIENCE,
    ).close()


def connect_to_redis(url: str) -> None:
    redis = importlib.import_module("redis")
    with redis.Redis.from_url(url, socket_connect_timeout=PATIENCE, socket_timeout=PATIENCE) as client:
        client.ping()


def connect_to_rabbitmq(url: str) -> None:
    kombu = importlib.import_module("kombu")
    with kombu.Connection(url, connect_timeout=PATIENCE) as connection:
        connection.connect()


def look_for_programs(daemon: str) -> None:
    """A keyring of the test's own needs two programs; nothing is connected to before the test starts them."""
    for program in (daemon, "dbus-daemon"):
        if shutil.which(program) is None:
            raise FileNotFoundError(program)


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
        """Whether somebody said that it is there."""
        return bool(os.environ.get(self.variable))

    @property
    def absence(self) -> str:
        """Why it is not used; empty where it is."""
        return missing(self, self.url)


@cache
def missing(service: Service, url: str) -> str:
    if not url:
        return f"{service.name} ({service.variable} is empty)"
    try:
        service.connect(url)
    except Exception as error:  # whatever a driver raises, also where it is not installed
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
    "gnome-keyring", "OAUTH_CONNECT_TEST_SECRET_SERVICE", "gnome-keyring-daemon", look_for_programs
)
ALL = (MARIADB, REDIS, RABBITMQ, SECRET_SERVICE)


def main() -> int:
    absences = [service.absence for service in ALL if service.absence]
    for absence in absences:
        print(f"Not there: {absence}.")
    return int(bool(absences))


if __name__ == "__main__":
    sys.exit(main())
