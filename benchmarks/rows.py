"""The rows that are refreshed: one for each grant of the server, all overdue."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from django.contrib.auth.models import User
from django.core.management.color import no_style
from django.db import connection
from django.db.models import Model

from benchmarks import server
from benchmarks.reference import recipes
from benchmarks.reference.models import Token as ReferenceToken
from oauth_connect.models import Connection, ConnectionEvent
from oauth_connect.models.owner import Owner
from oauth_connect.models.row import identity_of
from oauth_connect.protocol.token import Token
from oauth_connect.stores.columns import token_columns

AT_ONCE = 1000
LOOKED_AT = 2000  # of very many rows, so many are compared with the server
LIFETIME = timedelta(hours=1)


def key_of(family: int) -> uuid.UUID:
    return uuid.UUID(int=family + 1)


def family_of(key: uuid.UUID) -> int:
    return key.int - 1


def connections(count: int) -> None:
    """Store a connection for each of the server's first grants, each of a user of its own."""
    empty(Connection, ConnectionEvent)
    enough_users(count)
    keys = User.objects.order_by("pk").values_list("pk", flat=True)[:count]
    now = datetime.now(UTC)
    for start in range(0, count, AT_ONCE):
        users = list(keys[start : start + AT_ONCE])
        Connection.objects.bulk_create(
            _connection(family, user, now) for family, user in enumerate(users, start)
        )
    analyze(Connection)


def empty(*models: type[Model]) -> None:
    statements = connection.ops.sql_flush(no_style(), [model._meta.db_table for model in models])
    connection.ops.execute_sql_flush(statements)


def analyze(model: type[Model]) -> None:
    """Let the database count, as a server does by itself after a while."""
    table = "TABLE " if connection.vendor == "mysql" else ""
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {table}{connection.ops.quote_name(model._meta.db_table)}")


def enough_users(count: int) -> None:
    for start in range(User.objects.count(), count, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, count))
        User.objects.bulk_create(User(username=f"user {number}") for number in numbers)


def users(count: int) -> list[User]:
    enough_users(count)
    return list(User.objects.order_by("pk")[:count])


def _connection(family: int, user: int, now: datetime) -> Connection:
    owner = Owner(f"user:{user}", "")
    row = Connection(
        pk=key_of(family),
        owner=owner.key,
        user_id=user,
        connected_by_id=user,
        provider="bench",
        account_id=str(family),
        account_label=f"account {family}",
        client_id="benchmark",
        identity=identity_of(owner.key, "bench", str(family)),
    )
    overdue = now - timedelta(seconds=600) + timedelta(milliseconds=family)
    token = Token(
        access_token=server.access_token(family, 0),
        refresh_token=server.refresh_token(family, 0),
        obtained_at=overdue - LIFETIME,
        expires_at=overdue,
    )
    for name, value in token_columns(row, token, overdue).items():
        setattr(row, name, value)
    row.last_refreshed_at = overdue - LIFETIME
    return row


def reference_tokens(count: int) -> None:
    """Store the same for the reference recipes."""
    empty(ReferenceToken)
    overdue = datetime.now(UTC) - timedelta(seconds=600)
    for start in range(0, count, AT_ONCE):
        ReferenceToken.objects.bulk_create(
            ReferenceToken(
                pk=family + 1,
                access_token=recipes.seal(server.access_token(family, 0)),
                refresh_token=recipes.seal(server.refresh_token(family, 0)),
                expires_at=overdue + timedelta(milliseconds=family),
                leased_until=overdue,
            )
            for family in range(start, min(start + AT_ONCE, count))
        )
    analyze(ReferenceToken)


def lost_connections(generations: dict[int, int]) -> list[int]:
    """Return the grants whose stored refresh token is not the one that the server would take."""
    stored = Connection.objects.filter(pk__in=map(key_of, _some(generations)))
    found = {family_of(row.pk): row.token.refresh_token for row in stored.iterator()}
    return _lost(generations, found)


def lost_reference_tokens(generations: dict[int, int]) -> list[int]:
    stored = ReferenceToken.objects.filter(pk__in=[family + 1 for family in _some(generations)])
    found = {row.pk - 1: recipes.opened(row.refresh_token) for row in stored.iterator()}
    return _lost(generations, found)


def _some(generations: dict[int, int]) -> Iterator[int]:
    """Spread over all of them. SQLite takes no more than some thousands of parameters."""
    step = -(-len(generations) // LOOKED_AT)
    yield from range(0, len(generations), step)


def _lost(generations: dict[int, int], found: dict[int, str]) -> list[int]:
    wanted = {family: server.refresh_token(family, generations[family]) for family in _some(generations)}
    return [family for family, token in wanted.items() if found.get(family) != token]
