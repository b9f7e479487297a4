import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("training", "0005_rules_of_training_sets")]

    operations = [
        migrations.CreateModel(
            name="RoundSummary",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "key",
                    models.CharField(
                        help_text="How many pairs and decisions there were, whose votes.", max_length=200
                    ),
                ),
                ("values", models.JSONField()),
                ("made_at", models.DateTimeField(auto_now=True)),
                (
                    "round",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="summary",
                        to="training.round",
                    ),
                ),
            ],
            options={"verbose_name_plural": "round summaries"},
        ),
    ]
