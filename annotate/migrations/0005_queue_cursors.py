
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("annotate", "0004_checks_and_guidelines_versions"),
    ]

    operations = [
        migrations.CreateModel(
            name="AnnotatorProgress",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("labels", models.PositiveIntegerField(default=0)),
                (
                    "sweep_after",
                    models.DateTimeField(
                        blank=True,
                        help_text="When the whole queue is next searched before this annotator is told that all is done.",
                        null=True,
                    ),
                ),
                (
                    "annotator",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "study",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="annotate.study",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("study", "annotator"), name="one_progress_per_annotator")
                ],
            },
        ),
        migrations.CreateModel(
            name="QueueCursor",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("priority", models.SmallIntegerField()),
                ("order_key", models.FloatField()),
                (
                    "pair_number",
                    models.BigIntegerField(help_text="The id of the pair at the cursor, gone or not."),
                ),
                (
                    "annotator",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "study",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="annotate.study",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["study", "priority", "-order_key"], name="furthest_cursor")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("study", "annotator", "priority"),
                        name="one_cursor_per_annotator_and_priority",
                    )
                ],
            },
        ),
    ]
