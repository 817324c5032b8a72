from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("oauth_connect", "0003_requested_scopes"),
    ]

    operations = [
        migrations.AddField(
            model_name="pendingrevocation",
            name="account_id",
            field=models.CharField(blank=True, max_length=255, null=True, verbose_name="account id"),
        ),
    ]
