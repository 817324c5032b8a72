import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("oauth_connect", "0001_initial")]

    operations = [
        # The column stays as it is: only who gives it its value has changed.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name="connectionevent",
                    name="created_at",
                    field=models.DateTimeField(
                        db_index=True,
                        default=django.utils.timezone.now,
                        editable=False,
                        verbose_name="when",
                    ),
                )
            ]
        )
    ]
