from __future__ import annotations

from typing import Any

from django.db import migrations

from oauth_connect.models.fields import KeyField


class AlterKey(migrations.AlterField):
    """Changes the column where it does not compare bytes yet. Other databases need not rewrite the table."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor == "mysql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)


class Migration(migrations.Migration):
    dependencies = [
        ("oauth_connect", "0002_kept_tokens"),
    ]

    operations = [
        AlterKey(
            model_name="connection",
            name="owner",
            field=KeyField(max_length=255, verbose_name="owner"),
        ),
        AlterKey(
            model_name="connection",
            name="provider",
            field=KeyField(max_length=100, verbose_name="provider"),
        ),
        AlterKey(
            model_name="connection",
            name="account_id",
            field=KeyField(blank=True, max_length=255, verbose_name="account id"),
        ),
        AlterKey(
            model_name="connection",
            name="client_id",
            field=KeyField(blank=True, max_length=500, verbose_name="client id"),
        ),
        AlterKey(
            model_name="connectionevent",
            name="provider",
            field=KeyField(max_length=100, verbose_name="provider"),
        ),
        AlterKey(
            model_name="connectionevent",
            name="owner",
            field=KeyField(max_length=255, verbose_name="owner"),
        ),
        AlterKey(
            model_name="pendingrevocation",
            name="owner",
            field=KeyField(max_length=255, verbose_name="owner"),
        ),
        AlterKey(
            model_name="pendingrevocation",
            name="provider",
            field=KeyField(max_length=100, verbose_name="provider"),
        ),
        AlterKey(
            model_name="pendingrevocation",
            name="account_id",
            field=KeyField(blank=True, null=True, max_length=255, verbose_name="account id"),
        ),
        AlterKey(
            model_name="pendingrevocation",
            name="client_id",
            field=KeyField(blank=True, max_length=500, verbose_name="client id"),
        ),
        AlterKey(
            model_name="providerstate",
            name="provider",
            field=KeyField(primary_key=True, serialize=False, max_length=100, verbose_name="provider"),
        ),
    ]
