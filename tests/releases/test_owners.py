"""After the upgrade, keys that look alike are two, and each row names one owner."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from django.db import connections

from oauth_connect.models import Connection, ConnectionEvent, PendingRevocation, ProviderState
from oauth_connect.models.fields import Sealed
from oauth_connect.models.row import identity_of
from tests.releases import scratch

KEYS = ["org:aBC9", "org:AbC9", "org:abc9 ", "org:àbc9"]


def test_after_the_upgrade_keys_compare_byte_by_byte(
    django_db_setup: None, django_db_blocker: Any, tmp_path: Path, settings: Any
) -> None:
    with django_db_blocker.unblock(), scratch.scratch_database(tmp_path):
        settings.DATABASE_ROUTERS = ["tests.releases.scratch.Everything"]
        write(scratch.migrate_to("0002_kept_tokens"))
        scratch.migrate_to_the_newest()
        for key in KEYS:
            assert [row.owner for row in Connection.objects.for_owner(key)] == [key]
            assert Connection.objects.filter(provider=key, account_id=key).count() == 1
            assert ConnectionEvent.objects.filter(owner=key).count() == 1
            assert PendingRevocation.objects.filter(owner=key, account_id=key).count() == 1
            ProviderState.objects.create(provider=key)
        assert "oauth_connect_owner" in constraints()
        assert "oauth_connect_due" in constraints()


def write(models: Any) -> None:
    for number, key in enumerate(KEYS):
        names = {"owner": key, "provider": key}
        sealed = {"account_id": key, "sealed_token": Sealed("gAAAA")}
        rows = {
            "Connection": {**names, **sealed, "identity": f"{number:064}"},
            "ConnectionEvent": {**names, "connection_id": uuid.uuid4()},
            "PendingRevocation": {**names, **sealed, "connection_id": uuid.uuid4()},
        }
        for name, columns in rows.items():
            models.get_model(scratch.APP, name).objects.using(scratch.ALIAS).create(**columns)


def constraints() -> dict[str, Any]:
    connection = connections[scratch.ALIAS]
    with connection.cursor() as cursor:
        found: dict[str, Any] = connection.introspection.get_constraints(cursor, Connection._meta.db_table)
    return found


ADA, BOB = uuid.UUID(int=1), uuid.UUID(int=2)


def test_after_the_upgrade_rows_name_one_owner(
    django_db_setup: None, django_db_blocker: Any, tmp_path: Path, settings: Any
) -> None:
    """Earlier releases stored a user beside another owner's key, and none beside the key of a user."""
    with django_db_blocker.unblock(), scratch.scratch_database(tmp_path):
        settings.DATABASE_ROUTERS = ["tests.releases.scratch.Everything"]
        write_owners(scratch.migrate_to("0002_kept_tokens"))
        scratch.migrate_to_the_newest()
        rows = {row.account_id: (row.owner, row.user_id) for row in Connection.objects.all()}
        assert rows == {
            "beside": ("org:1", None),
            "by key": (f"user:{ADA}", ADA),
            "gone": (f"user:{uuid.UUID(int=3)}", None),
            "moved": (f"user:{ADA}", BOB),
            "overwritten": ("org:1", ADA),
            "right": (f"user:{BOB}", BOB),
            "opaque": ("user:ada", None),
        }
        unused = {row.account_id for row in Connection.objects.all() if not row.owner_agrees}
        assert unused == {"gone", "moved", "overwritten"}, "oauth_repair_owners decides about these"


def write_owners(models: Any) -> None:
    people = models.get_model("accounts", "User").objects.using(scratch.ALIAS)
    for pk, name in ((ADA, "ada"), (BOB, "bob")):
        people.create(pk=pk, username=name)
    rows = [
        ("beside", "org:1", ADA),
        ("by key", f"user:{ADA}", None),
        ("gone", f"user:{uuid.UUID(int=3)}", None),
        ("moved", f"user:{ADA}", BOB),
        ("overwritten", f"user:{ADA}", ADA),
        ("right", f"user:{BOB}", BOB),
        ("opaque", "user:ada", None),
    ]
    connections = models.get_model(scratch.APP, "Connection").objects.using(scratch.ALIAS)
    for account_id, owner, user_id in rows:
        identity = identity_of(owner, "acme", account_id)
        connections.create(
            owner=owner, user_id=user_id, provider="acme", account_id=account_id, identity=identity
        )
    connections.filter(account_id="overwritten").update(owner="org:1")
