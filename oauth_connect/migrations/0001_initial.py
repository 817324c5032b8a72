import uuid

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import oauth_connect.models.fields


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="ConsumedState",
            fields=[
                ("state_hash", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("expires_at", models.DateTimeField(db_index=True, verbose_name="expires at")),
            ],
            options={
                "verbose_name": "consumed state",
                "verbose_name_plural": "consumed states",
            },
        ),
        migrations.CreateModel(
            name="PendingRevocation",
            fields=[
                (
                    "id",
                    models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False),
                ),
                ("connection_id", models.UUIDField(db_index=True, verbose_name="connection")),
                ("owner", models.CharField(max_length=255, verbose_name="owner")),
                ("provider", models.CharField(max_length=100, verbose_name="provider")),
                (
                    "account_id",
                    models.CharField(blank=True, max_length=255, null=True, verbose_name="account id"),
                ),
                ("client_id", models.CharField(blank=True, max_length=500, verbose_name="client id")),
                ("variables", models.JSONField(blank=True, default=dict, verbose_name="variables")),
                ("sealed_token", oauth_connect.models.fields.SealedField(verbose_name="token")),
                ("attempts", models.PositiveIntegerField(default=0, verbose_name="attempts")),
                (
                    "next_attempt_at",
                    models.DateTimeField(
                        db_index=True, default=django.utils.timezone.now, verbose_name="next attempt at"
                    ),
                ),
                ("last_error", models.CharField(blank=True, max_length=64, verbose_name="last error")),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created at")),
            ],
            options={
                "verbose_name": "pending revocation",
                "verbose_name_plural": "pending revocations",
            },
        ),
        migrations.CreateModel(
            name="ProviderState",
            fields=[
                (
                    "provider",
                    models.CharField(
                        max_length=100, primary_key=True, serialize=False, verbose_name="provider"
                    ),
                ),
                ("blocked_until", models.DateTimeField(blank=True, null=True, verbose_name="blocked until")),
                ("failures", models.PositiveIntegerField(default=0, verbose_name="failures")),
                ("alarm", models.CharField(blank=True, max_length=64, verbose_name="alarm")),
                ("alarm_since", models.DateTimeField(blank=True, null=True, verbose_name="alarm since")),
                (
                    "fingerprint",
                    models.CharField(blank=True, max_length=64, verbose_name="settings fingerprint"),
                ),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="updated at")),
            ],
            options={
                "verbose_name": "provider state",
                "verbose_name_plural": "provider states",
            },
        ),
        migrations.CreateModel(
            name="Connection",
            fields=[
                (
                    "id",
                    models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False),
                ),
                ("owner", models.CharField(max_length=255, verbose_name="owner")),
                ("provider", models.CharField(max_length=100, verbose_name="provider")),
                (
                    "grant",
                    models.CharField(
                        choices=[
                            ("authorization_code", "authorization code"),
                            ("device_code", "device code"),
                            ("client_credentials", "client credentials"),
                        ],
                        default="authorization_code",
                        max_length=32,
                        verbose_name="grant",
                    ),
                ),
                ("account_id", models.CharField(blank=True, max_length=255, verbose_name="account id")),
                ("account_label", models.CharField(blank=True, max_length=255, verbose_name="account")),
                ("scopes", models.JSONField(blank=True, default=list, verbose_name="granted scopes")),
                (
                    "requested_scopes",
                    models.JSONField(blank=True, default=list, verbose_name="requested scopes"),
                ),
                ("client_id", models.CharField(blank=True, max_length=500, verbose_name="client id")),
                ("redirect_uri", models.TextField(blank=True, verbose_name="redirect URI")),
                ("resource", models.TextField(blank=True, verbose_name="resource")),
                ("audience", models.TextField(blank=True, verbose_name="audience")),
                ("variables", models.JSONField(blank=True, default=dict, verbose_name="variables")),
                ("extra", models.JSONField(blank=True, default=dict, verbose_name="extra")),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("active", "active"),
                            ("reauthorization_required", "must be connected again"),
                            ("revoked", "disconnected"),
                        ],
                        default="active",
                        max_length=32,
                        verbose_name="status",
                    ),
                ),
                ("expires_at", models.DateTimeField(blank=True, null=True, verbose_name="expires at")),
                ("refresh_at", models.DateTimeField(blank=True, null=True, verbose_name="refresh at")),
                (
                    "refresh_token_expires_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="refresh token expires at"),
                ),
                (
                    "reconnect_before",
                    models.DateTimeField(blank=True, null=True, verbose_name="reconnect before"),
                ),
                (
                    "last_refreshed_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="last refreshed at"),
                ),
                ("last_error", models.CharField(blank=True, max_length=64, verbose_name="last error")),
                ("failures", models.PositiveIntegerField(default=0, verbose_name="failures")),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created at")),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="updated at")),
                ("sealed_token", oauth_connect.models.fields.SealedField(null=True, verbose_name="token")),
                ("version", models.PositiveBigIntegerField(default=0, verbose_name="version")),
                ("lease_owner", models.CharField(blank=True, default="", editable=False, max_length=32)),
                ("lease_until", models.BigIntegerField(default=0, editable=False)),
                ("in_doubt", models.BooleanField(default=False, verbose_name="in doubt")),
                ("identity", models.CharField(editable=False, max_length=64, unique=True)),
                (
                    "connected_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="connected by",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="oauth_connections",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "connection",
                "verbose_name_plural": "connections",
                "permissions": [
                    ("refresh_connection", "Can refresh connection"),
                    ("disconnect_connection", "Can disconnect connection"),
                ],
                "indexes": [
                    models.Index(fields=["provider", "refresh_at"], name="oauth_connect_due"),
                    models.Index(fields=["owner", "provider"], name="oauth_connect_owner"),
                ],
            },
        ),
        migrations.CreateModel(
            name="ConnectionEvent",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("connection_id", models.UUIDField(verbose_name="connection")),
                ("provider", models.CharField(max_length=100, verbose_name="provider")),
                ("owner", models.CharField(max_length=255, verbose_name="owner")),
                (
                    "action",
                    models.CharField(
                        choices=[
                            ("connected", "connected"),
                            ("refreshed", "refreshed"),
                            ("refresh_failed", "refresh failed"),
                            ("reauthorization_required", "must be connected again"),
                            ("scopes_changed", "scopes changed"),
                            ("disconnected", "disconnected"),
                            ("revoked_by_staff", "revoked by staff"),
                            ("key_rotated", "key rotated"),
                        ],
                        max_length=32,
                        verbose_name="action",
                    ),
                ),
                ("error", models.CharField(blank=True, max_length=64, verbose_name="error")),
                ("detail", models.JSONField(blank=True, default=dict, verbose_name="detail")),
                (
                    "created_at",
                    models.DateTimeField(
                        db_index=True, default=django.utils.timezone.now, editable=False, verbose_name="when"
                    ),
                ),
                (
                    "actor",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="who",
                    ),
                ),
            ],
            options={
                "verbose_name": "connection event",
                "verbose_name_plural": "connection events",
                "indexes": [
                    models.Index(fields=["connection_id", "created_at"], name="oauth_connect_history")
                ],
            },
        ),
    ]
