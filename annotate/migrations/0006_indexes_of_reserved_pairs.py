
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("annotate", "0005_queue_cursors"),
    ]

    operations = [
        migrations.AlterField(
            model_name="pair",
            name="reserved_for",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                help_text="Only this annotator gets the pair; empty: whoever is next.",
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="reserved_pairs",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddIndex(
            model_name="pair",
            index=models.Index(
                condition=models.Q(("reserved_for__isnull", False)),
                fields=["reserved_for", "original"],
                name="reserved_by_original",
            ),
        ),
        migrations.AddIndex(
            model_name="pair",
            index=models.Index(
                condition=models.Q(("reserved_for__isnull", False)),
                fields=["reserved_for", "created_at"],
                name="reserved_by_time",
            ),
        ),
    ]
