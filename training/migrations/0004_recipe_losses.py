from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("training", "0003_evaluation_and_gate"),
    ]

    operations = [
        migrations.AddField(
            model_name="recipe",
            name="loss",
            field=models.CharField(
                choices=[
                    ("dpo", "DPO"),
                    ("cdpo", "cDPO: labels are wrong with a known chance"),
                    ("robust", "Robust DPO: the same, without its bias"),
                    ("ipo", "IPO: a fixed margin, per token"),
                    ("ipo_sum", "IPO: a fixed margin, summed"),
                    ("hinge", "Hinge: stops at margin 1"),
                    ("dpo_norm", "Length-normalised DPO"),
                    ("simpo", "SimPO: no reference, per token"),
                    ("orpo", "ORPO: no reference, with SFT"),
                    ("rao_kupper", "DPO with ties (Rao–Kupper)"),
                    ("davidson", "DPO with ties (Davidson)"),
                ],
                default="dpo",
                max_length=20,
            ),
        ),
        migrations.AddField(
            model_name="recipe", name="label_smoothing", field=models.FloatField(blank=True, null=True)
        ),
        migrations.AddField(
            model_name="recipe", name="gamma", field=models.FloatField(blank=True, null=True)
        ),
        migrations.AddField(
            model_name="recipe", name="orpo_lambda", field=models.FloatField(blank=True, null=True)
        ),
        migrations.AddField(model_name="recipe", name="nu", field=models.FloatField(blank=True, null=True)),
        migrations.AddField(
            model_name="recipe", name="nll_alpha", field=models.FloatField(blank=True, null=True)
        ),
    ]
