from django.conf import settings
from django.db import models

from annotate.models import Study


class DemonstrationRun(models.Model):
    """An SFT run on demonstrations: its model becomes the study's reference, before the first round."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="demonstration_runs")
    number = models.PositiveSmallIntegerField()
    config = models.JSONField(help_text="What config.json of the run directory holds.")
    examples = models.PositiveIntegerField()
    dataset_sha256 = models.CharField(max_length=64, help_text="Of examples.jsonl.")
    directory = models.CharField(max_length=500, help_text="Below STUDIO_HOME.")
    base_before = models.CharField(max_length=500, help_text="The base model that it started from.")
    result = models.JSONField(null=True, blank=True, help_text="What result.json of the finished run holds.")
    model_path = models.CharField(
        max_length=500, blank=True, help_text="The new base, below STUDIO_HOME, once it is made."
    )
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["study", "number"]
        constraints = [
            models.UniqueConstraint(
                fields=["study", "number"], name="one_demonstration_run_per_number_and_study"
            )
        ]

    def __str__(self) -> str:
        return f"demonstration run {self.number} of {self.study}"
