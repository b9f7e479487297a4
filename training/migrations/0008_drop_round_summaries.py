from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("training", "0007_several_candidates_and_demonstrations")]

    operations = [migrations.DeleteModel(name="RoundSummary")]
