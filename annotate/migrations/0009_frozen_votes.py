import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("annotate", "0008_preference_version")]

    operations = [
        migrations.CreateModel(
            name="FrozenVotes",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
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
                ("batch", models.PositiveIntegerField()),
                (
                    "pairs",
                    models.PositiveIntegerField(help_text="How many pairs of the delivery are frozen."),
                ),
                (
                    "votes",
                    models.BinaryField(
                        help_text="Two little-endian 64-bit integers a vote, see annotate/selectors/packed_votes.py."
                    ),
                ),
                (
                    "counts",
                    models.JSONField(
                        help_text="Labels by annotator and day, by verdict; how votes fell on shared pairs."
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("study", "batch"), name="one_row_of_frozen_votes_per_batch"
                    )
                ],
                "verbose_name_plural": "frozen votes",
            },
        ),
        migrations.AddIndex(
            model_name="pair",
            index=models.Index(
                fields=["study", "batch", "purpose"],
                condition=models.Q(state="frozen"),
                name="frozen_pairs_by_delivery",
            ),
        ),
    ]
