"""Keys that the collation of MariaDB took for one are told apart after the upgrade."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from django.db import connections

from oauth_connect.models import Connection, ConnectionEvent, PendingRevocation, ProviderState
from oauth_connect.models.fields import Sealed
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
