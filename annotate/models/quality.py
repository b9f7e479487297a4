from django.conf import settings
from django.db import models

from annotate.models.labelling import Verdict
from annotate.models.pairs import Pair


class KnownAnswer(models.Model):
    """The verdict that a gold or practice pair should get, and why; practice shows it, gold never does."""

    pair = models.OneToOneField(Pair, on_delete=models.CASCADE, related_name="known_answer")
    verdict = models.CharField(max_length=10, choices=Verdict.choices)
    explanation = models.TextField(blank=True)

    def __str__(self) -> str:
        return f"{self.get_verdict_display()}: {self.pair}"


class Flag(models.Model):
    """An annotator says that something is wrong with a pair; a lead resolves it."""

    class Reason(models.TextChoices):
        BROKEN = "broken", "Broken or unreadable"
        HARMFUL = "harmful", "Harmful or offensive"
        PRIVATE = "private", "Private data"
        UNCLEAR = "unclear", "The guidelines do not cover it"
        OTHER = "other", "Something else"

    pair = models.ForeignKey(Pair, on_delete=models.CASCADE, related_name="flags")
    annotator = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="flags")
    reason = models.CharField(max_length=10, choices=Reason.choices)
    note = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    answer = models.TextField(blank=True, help_text="What the lead says to the annotator.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["pair", "annotator"], name="one_flag_per_pair_and_annotator")
        ]

    def __str__(self) -> str:
        return f"{self.get_reason_display()}: {self.pair}"


class Resolution(models.Model):
    """A lead's decision on a pair; in a training set it goes before the votes."""

    pair = models.OneToOneField(Pair, on_delete=models.CASCADE, related_name="resolution")
    verdict = models.CharField(max_length=10, choices=Verdict.choices, blank=True)
    left_out = models.BooleanField(default=False, help_text="The pair is used for nothing.")
    note = models.TextField(blank=True)
    resolved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"resolution of {self.pair}"
