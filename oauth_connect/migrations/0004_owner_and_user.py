from __future__ import annotations

import hashlib
import json
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import migrations, models


def let_owners_agree(apps: Any, schema_editor: Any) -> None:
    """Correct rows that earlier releases wrote with another owner than the user. Otherwise nobody uses them."""
    alias = schema_editor.connection.alias
    rows = apps.get_model("oauth_connect", "Connection")._base_manager.using(alias)
    _remove_users_of_other_owners(rows)
    _add_missing_users(rows, apps.get_model(settings.AUTH_USER_MODEL), alias)


def _remove_users_of_other_owners(rows: Any) -> None:
    """Remove the user where the key is not a user's: Owner("org:7", user=...) stored both."""
    found = rows.filter(user__isnull=False)
    names = ("pk", "identity", "owner", "provider", "account_id")
    wrong = [
        pk
        for pk, identity, *parts in found.values_list(*names).iterator()
        # Not in the query: SQLite finds "USER:7" for "user:".
        if not parts[0].startswith("user:")
        and identity == hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    ]
    for pk in wrong:
        rows.filter(pk=pk).update(user=None)


def _add_missing_users(rows: Any, user_model: Any, alias: str) -> None:
    """Set the user of a row that was stored by the key of a user."""
    users = user_model._base_manager.using(alias)
    found = rows.filter(user__isnull=True, owner__startswith="user:")
    for pk, owner in list(found.values_list("pk", "owner")):
        try:
            user_id = user_model._meta.pk.to_python(owner.removeprefix("user:"))
        except ValidationError:
            continue
        # Compared here too: MariaDB finds "Bob" for the primary key "bob".
        if owner == f"user:{user_id}" and user_id in users.filter(pk=user_id).values_list("pk", flat=True):
            rows.filter(pk=pk).update(user=user_id)


class Migration(migrations.Migration):
    dependencies = [
        ("oauth_connect", "0003_keys_in_binary"),
    ]

    operations = [
        migrations.AlterField(
            model_name="connectionevent",
            name="action",
            field=models.CharField(
                choices=[
                    ("connected", "connected"),
                    ("refreshed", "refreshed"),
                    ("refresh_failed", "refresh failed"),
                    ("reauthorization_required", "must be connected again"),
                    ("scopes_changed", "scopes changed"),
                    ("disconnected", "disconnected"),
                    ("revoked_by_staff", "revoked by staff"),
                    ("key_rotated", "key rotated"),
                    ("moved", "handed over"),
                ],
                max_length=32,
                verbose_name="action",
            ),
        ),
        migrations.RunPython(let_owners_agree, migrations.RunPython.noop, elidable=True),
    ]
