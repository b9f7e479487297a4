from django.db import migrations, models


def keep_present_guidelines(apps, schema_editor):
    """Earlier texts were not kept; the one in use becomes the first version on record."""
    Study = apps.get_model("annotate", "Study")
    GuidelinesVersion = apps.get_model("annotate", "GuidelinesVersion")
    for study in Study.objects.filter(guidelines_versions__isnull=True):
        GuidelinesVersion.objects.create(
            study=study, number=study.guidelines_version, text=study.guidelines, created_by=study.created_by
        )


class Migration(migrations.Migration):

    dependencies = [
        ("annotate", "0003_what_people_have_read"),
    ]

    operations = [
        migrations.AlterField(
            model_name="prompt",
            name="split",
            field=models.CharField(
                choices=[("train", "Train"), ("heldout", "Held-out"), ("check", "Check")], max_length=8
            ),
        ),
        migrations.RunPython(keep_present_guidelines, migrations.RunPython.noop),
    ]
