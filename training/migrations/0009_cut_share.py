import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("training", "0008_drop_round_summaries")]

    operations = [
        migrations.AddField(
            model_name="evaluationplan",
            name="cut_share",
            field=models.FloatField(
                blank=True,
                default=0.5,
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(0.0),
                    django.core.validators.MaxValueValidator(1.0),
                ],
            ),
        ),
    ]
