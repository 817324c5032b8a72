from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("oauth_connect", "0005_not_editable"),
    ]

    operations = [
        migrations.AddField(
            model_name="connection",
            name="chosen_at",
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name="chosen at"),
        ),
        migrations.AddField(
            model_name="connection",
            name="error_since",
            field=models.DateTimeField(
                blank=True, editable=False, null=True, verbose_name="same error since"
            ),
        ),
    ]
