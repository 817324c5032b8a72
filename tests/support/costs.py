"""Counts what a piece of work costs. The numbers do not depend on the speed of the machine."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any
from unittest import mock

from cryptography.fernet import MultiFernet
from django.db import connections
from django.db.backends.signals import connection_created

from tests.servers.scripted import ScriptedServer

# BEGIN passes Django's cursor on SQLite only.
_COUNTED = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)


@dataclass
class Costs:
    """What was spent, or what may be. None: not compared.

    ``columns``: of all rows that were asked for by a SELECT, without regard to how many there were.
    ``sockets``: connections that the server has accepted. ``tls_contexts``: each one reads a file of CAs.
    """

    statements: int | None = 0
    columns: int | None = 0
    decryptions: int | None = 0
    requests: int | None = 0
    sockets: int | None = 0
    tls_contexts: int | None = 0

    def differences(self, budget: Costs) -> dict[str, tuple[int, int]]:
        """Return each number that is not the one of the budget, with that one."""
        pairs = ((one.name, getattr(self, one.name), getattr(budget, one.name)) for one in fields(self))
        return {name: (spent, limit) for name, spent, limit in pairs if limit is not None and spent != limit}


@contextmanager
def counted(server: ScriptedServer) -> Iterator[Costs]:
    """Count what happens meanwhile, in all threads of this process. The result is complete at the end."""
    costs = Costs()
    requests, sockets = len(server.requests), len(server.accepted)
    with _statements(costs), _decryptions(costs), _tls_contexts(costs):
        yield costs
    costs.requests = len(server.requests) - requests
    costs.sockets = len(server.accepted) - sockets


@contextmanager
def _statements(costs: Any) -> Iterator[None]:
    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if _COUNTED.match(sql):
            costs.statements += 1
            costs.columns += len(context["cursor"].description or ()) if sql.startswith("SELECT") else 0
        return result

    def attach(connection: Any, **_: Any) -> None:
        if count not in connection.execute_wrappers:
            connection.execute_wrappers.append(count)

    for connection in connections.all():
        attach(connection)
    connection_created.connect(attach)
    try:
        yield
    finally:
        connection_created.disconnect(attach)
        for connection in connections.all():
            connection.execute_wrappers.remove(count)


@contextmanager
def _decryptions(costs: Any) -> Iterator[None]:
    real = MultiFernet.decrypt

    def decrypt(*arguments: Any, **options: Any) -> bytes:
        costs.decryptions += 1
        return real(*arguments, **options)

    with mock.patch.object(MultiFernet, "decrypt", decrypt):
        yield


@contextmanager
def _tls_contexts(costs: Any) -> Iterator[None]:
    real = ssl.SSLContext.__new__

    def new(*arguments: Any, **options: Any) -> ssl.SSLContext:
        costs.tls_contexts += 1
        return real(*arguments, **options)

    with mock.patch.object(ssl.SSLContext, "__new__", new):
        yield
