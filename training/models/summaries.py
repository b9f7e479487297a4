from django.db import models

from training.models.rounds import Round


class RoundSummary(models.Model):
    """What the labels of a round come to, once no pair of it takes labels any more.

    `key` says what was counted: a summary with another key is made anew.
    """

    round = models.OneToOneField(Round, on_delete=models.CASCADE, related_name="summary")
    key = models.CharField(max_length=200, help_text="How many pairs and decisions there were, whose votes.")
    values = models.JSONField()
    made_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "round summaries"

    def __str__(self) -> str:
        return f"summary of {self.round}"
