import uuid

from django.db import migrations, models

import oauth_connect.models.fields


class Migration(migrations.Migration):
    dependencies = [
        ("oauth_connect", "0006_choice_and_errors"),
    ]

    operations = [
        migrations.CreateModel(
            name="RegisteredClient",
            fields=[
                (
                    "id",
                    models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False),
                ),
                ("provider", oauth_connect.models.fields.KeyField(max_length=100, verbose_name="provider")),
                ("server", oauth_connect.models.fields.KeyField(max_length=255, verbose_name="server")),
                ("sealed_client", oauth_connect.models.fields.SealedField(verbose_name="client")),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created at")),
            ],
            options={
                "verbose_name": "registered client",
                "verbose_name_plural": "registered clients",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("provider", "server"), name="oauth_connect_registered_client"
                    )
                ],
            },
        ),
    ]
