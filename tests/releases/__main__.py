"""Write down what this version stores: ``python -m tests.releases``, once, before it is released."""

from __future__ import annotations

import base64
import json
import os
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import django
from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.test import override_settings

from tests.releases import FOLDER

KEY = base64.urlsafe_b64encode(b"of the files in tests/releases..").decode()
USER = uuid.UUID(int=1)
THEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
FAR = datetime(2999, 1, 1, tzinfo=UTC)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    with override_settings(OAUTH_CONNECT={**settings.OAUTH_CONNECT, "KEYS": [KEY]}):
        content = frozen()
    path = FOLDER / f"{content['version']}.json"
    # Mode "x": a release is frozen once.
    with path.open("x", encoding="utf-8") as file:
        json.dump(content, file, cls=DjangoJSONEncoder, indent=1, ensure_ascii=False)
        file.write("\n")


def frozen() -> dict[str, Any]:
    from django.db.migrations.loader import MigrationLoader

    import oauth_connect
    from oauth_connect.stores.columns import binding

    rows = [*connections(), *others()]
    sealed = [row for row in rows if getattr(row, "sealed_token", None)]
    ((_, migration),) = MigrationLoader(None).graph.leaf_nodes("oauth_connect")
    return {
        "version": oauth_connect.__version__,
        "migration": migration,
        "key": KEY,
        "user": USER,
        "rows": {name: of_one(rows, name) for name in dict.fromkeys(row._meta.model_name for row in rows)},
        "sealed": [entry(binding(row), row.sealed_token.ciphertext) for row in sealed] + values(),
    }


def of_one(rows: list[Any], name: str) -> list[dict[str, Any]]:
    """The columns of the rows of one model."""
    return [
        {field.column: field.value_from_object(row) for field in row._meta.concrete_fields}
        for row in rows
        if row._meta.model_name == name
    ]


def connections() -> list[Any]:
    of_a_user = {"owner": f"user:{USER}", "user_id": USER, "connected_by_id": USER}
    waiting = {"lease_owner": "0123456789abcdef0123456789abcdef", "lease_until": 1_767_323_045_678}
    return [
        connection("due", of_a_user, version=3, account_label="Ada Lovelace ✓", extra={"site": [1, None]}),
        connection("in-doubt", of_a_user, in_doubt=True, failures=1, last_error="timeout", **waiting),
        connection("valid", of_a_user, until=FAR),
        connection("of-a-team", {"owner": "team:7"}, until=FAR, version=12),
        connection(
            "marked", of_a_user, status="reauthorization_required", last_error="revoked", refresh_at=None
        ),
        connection("forgotten", of_a_user, status="revoked", refresh_at=None, sealed_token=None),
    ]


def connection(name: str, whose: dict[str, Any], *, until: datetime | None = None, **columns: Any) -> Any:
    from oauth_connect.models import Connection
    from oauth_connect.models.row import identity_of
    from oauth_connect.stores.columns import token_columns

    row = Connection(
        id=uuid.uuid5(uuid.NAMESPACE_URL, name),
        **whose,
        provider="acme",
        account_id=name,
        client_id="client",
        redirect_uri="https://app.example/connections/acme/callback/",
        identity=identity_of(whose["owner"], "acme", name),
    )
    expires_at = until or THEN + timedelta(hours=1)
    written = token_columns(row, token(name, expires_at), expires_at - timedelta(minutes=1))
    times = {"created_at": THEN, "updated_at": THEN, "last_refreshed_at": THEN}
    for column, value in {**written, **times, **columns}.items():
        setattr(row, column, value)
    return row


def token(name: str, expires_at: datetime | None) -> Any:
    from oauth_connect.protocol.token import Token

    return Token(
        access_token=f"access-{name}",
        refresh_token=f"refresh-{name}",
        scopes=("read", "write"),
        obtained_at=THEN,
        expires_at=expires_at,
        refresh_token_expires_at=FAR,
        extra={"id_token": "é😀", "team": {"id": 7}},
    )


def others() -> list[Any]:
    from oauth_connect.models import ConnectionEvent, ConsumedState, PendingRevocation, ProviderState

    gone = PendingRevocation(
        id=uuid.UUID(int=2),
        connection_id=uuid.UUID(int=3),
        owner="user:gone",
        provider="acme",
        client_id="client",
        next_attempt_at=THEN,
        created_at=THEN,
    )
    gone.seal(token("gone", None))
    of_the_first = uuid.uuid5(uuid.NAMESPACE_URL, "due")
    return [
        gone,
        ConsumedState(state_hash="ab" * 32, expires_at=THEN),
        ProviderState(provider="acme", updated_at=THEN),
        ConnectionEvent(
            id=1,
            connection_id=of_the_first,
            provider="acme",
            owner=f"user:{USER}",
            action="connected",
            created_at=THEN,
        ),
    ]


def values() -> list[dict[str, Any]]:
    """What is sealed outside of rows: a flow under way, in a session; and a few plain values."""
    from oauth_connect import crypto
    from oauth_connect.flows.pending import SESSION_KEY

    flow = {"state": "a state", "code_verifier": "a verifier", "scopes": [], "created": THEN.timestamp()}
    place = ("session", SESSION_KEY, "cd" * 32)
    plain = [(("a", "place"), value) for value in ("", "é😀", None, 0, [1, [2]], {"a": {"b": None}})]
    return [entry(binding, crypto.seal(value, binding)) for binding, value in [(place, flow), *plain]]


def entry(binding: tuple[str, ...], sealed: str) -> dict[str, Any]:
    from oauth_connect import crypto

    return {"binding": binding, "sealed": sealed, "value": crypto.unseal(sealed, binding)}


if __name__ == "__main__":
    main()
