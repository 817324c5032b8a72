import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import oauth_connect.models.fields


class Migration(migrations.Migration):
    dependencies = [
        ("oauth_connect", "0004_owner_and_user"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterField(
            model_name="connection",
            name="account_id",
            field=oauth_connect.models.fields.KeyField(
                blank=True, editable=False, max_length=255, verbose_name="account id"
            ),
        ),
        migrations.AlterField(
            model_name="connection",
            name="audience",
            field=models.TextField(blank=True, editable=False, verbose_name="audience"),
        ),
        migrations.AlterField(
            model_name="connection",
            name="client_id",
            field=oauth_connect.models.fields.KeyField(
                blank=True, editable=False, max_length=500, verbose_name="client id"
            ),
        ),
        migrations.AlterField(
            model_name="connection",
            name="connected_by",
            field=models.ForeignKey(
                blank=True,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
                verbose_name="connected by",
            ),
        ),
        migrations.AlterField(
            model_name="connection",
            name="expires_at",
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name="expires at"),
        ),
        migrations.AlterField(
            model_name="connection",
            name="failures",
            field=models.PositiveIntegerField(default=0, editable=False, verbose_name="failures"),
        ),
        migrations.AlterField(
            model_name="connection",
            name="grant",
            field=models.CharField(
                choices=[
                    ("authorization_code", "authorization code"),
                    ("device_code", "device code"),
                    ("client_credentials", "client credentials"),
                ],
                default="authorization_code",
                editable=False,
                max_length=32,
                verbose_name="grant",
            ),
        ),
        migrations.AlterField(
            model_name="connection",
            name="in_doubt",
            field=models.BooleanField(default=False, editable=False, verbose_name="in doubt"),
        ),
        migrations.AlterField(
            model_name="connection",
            name="last_error",
            field=models.CharField(blank=True, editable=False, max_length=64, verbose_name="last error"),
        ),
        migrations.AlterField(
            model_name="connection",
            name="last_refreshed_at",
            field=models.DateTimeField(
                blank=True, editable=False, null=True, verbose_name="last refreshed at"
            ),
        ),
        migrations.AlterField(
            model_name="connection",
            name="owner",
            field=oauth_connect.models.fields.KeyField(editable=False, max_length=255, verbose_name="owner"),
        ),
        migrations.AlterField(
            model_name="connection",
            name="provider",
            field=oauth_connect.models.fields.KeyField(
                editable=False, max_length=100, verbose_name="provider"
            ),
        ),
        migrations.AlterField(
            model_name="connection",
            name="reconnect_before",
            field=models.DateTimeField(
                blank=True, editable=False, null=True, verbose_name="reconnect before"
            ),
        ),
        migrations.AlterField(
            model_name="connection",
            name="redirect_uri",
            field=models.TextField(blank=True, editable=False, verbose_name="redirect URI"),
        ),
        migrations.AlterField(
            model_name="connection",
            name="refresh_at",
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name="refresh at"),
        ),
        migrations.AlterField(
            model_name="connection",
            name="refresh_token_expires_at",
            field=models.DateTimeField(
                blank=True, editable=False, null=True, verbose_name="refresh token expires at"
            ),
        ),
        migrations.AlterField(
            model_name="connection",
            name="requested_scopes",
            field=models.JSONField(blank=True, default=list, editable=False, verbose_name="requested scopes"),
        ),
        migrations.AlterField(
            model_name="connection",
            name="resource",
            field=models.TextField(blank=True, editable=False, verbose_name="resource"),
        ),
        migrations.AlterField(
            model_name="connection",
            name="scopes",
            field=models.JSONField(blank=True, default=list, editable=False, verbose_name="granted scopes"),
        ),
        migrations.AlterField(
            model_name="connection",
            name="status",
            field=models.CharField(
                choices=[
                    ("active", "active"),
                    ("reauthorization_required", "must be connected again"),
                    ("revoked", "disconnected"),
                ],
                default="active",
                editable=False,
                max_length=32,
                verbose_name="status",
            ),
        ),
        migrations.AlterField(
            model_name="connection",
            name="user",
            field=models.ForeignKey(
                blank=True,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="oauth_connections",
                to=settings.AUTH_USER_MODEL,
                verbose_name="user",
            ),
        ),
        migrations.AlterField(
            model_name="connection",
            name="variables",
            field=models.JSONField(blank=True, default=dict, editable=False, verbose_name="variables"),
        ),
        migrations.AlterField(
            model_name="connection",
            name="version",
            field=models.PositiveBigIntegerField(default=0, editable=False, verbose_name="version"),
        ),
    ]
