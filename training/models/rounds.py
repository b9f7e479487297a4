from django.conf import settings
from django.db import models

from annotate.models import Study
from training.models.policies import Policy


class Round(models.Model):
    """collecting → training → trained → closed; a failed job never dead-ends it."""

    class State(models.TextChoices):
        COLLECTING = "collecting", "Collecting"
        TRAINING = "training", "Training"
        TRAINED = "trained", "Trained"
        CLOSED = "closed", "Closed"

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="rounds")
    number = models.PositiveIntegerField()
    sampled_policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="sampled_rounds")
    chosen_policy = models.ForeignKey(
        Policy, null=True, blank=True, on_delete=models.PROTECT, related_name="chosen_in_rounds"
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.COLLECTING)
    opened_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    opened_at = models.DateTimeField(auto_now_add=True)
    samples_per_prompt = models.PositiveSmallIntegerField(default=2)
    pair_choice = models.CharField(
        max_length=10, default="random", help_text="As the recipe said at opening."
    )
    random_share = models.FloatField(default=1.0)
    pairs_dropped = models.PositiveIntegerField(
        default=0, help_text="Prompts whose two responses stayed identical after resampling."
    )

    class Meta:
        ordering = ["study", "number"]
        constraints = [
            models.UniqueConstraint(fields=["study", "number"], name="one_round_per_number_and_study"),
            models.UniqueConstraint(
                fields=["study"],
                condition=models.Q(state__in=["collecting", "training"]),
                name="one_round_at_work_per_study",
            ),
        ]

    def __str__(self) -> str:
        return f"round {self.number} of {self.study}"


class Run(models.Model):
    """One training run inside a round: one config on one frozen set of labels."""

    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="runs")
    number = models.PositiveSmallIntegerField(default=1)
    config = models.JSONField(help_text="What config.json of the run directory holds.")
    receipt = models.JSONField(help_text="What went into the training set, what was left out, and why.")
    dataset_sha256 = models.CharField(max_length=64, help_text="Of examples.jsonl.")
    directory = models.CharField(max_length=500, help_text="Below STUDIO_HOME.")
    result = models.JSONField(null=True, blank=True, help_text="What result.json of the finished run holds.")
    policy = models.OneToOneField(Policy, null=True, blank=True, on_delete=models.PROTECT, related_name="run")
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["round", "number"]
        constraints = [
            models.UniqueConstraint(fields=["round", "number"], name="one_run_per_number_and_round")
        ]

    def __str__(self) -> str:
        return f"run {self.number} of {self.round}"
