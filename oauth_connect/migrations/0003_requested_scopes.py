from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("oauth_connect", "0002_event_time"),
    ]

    operations = [
        migrations.AddField(
            model_name="connection",
            name="requested_scopes",
            field=models.JSONField(blank=True, default=list, verbose_name="requested scopes"),
        ),
    ]
