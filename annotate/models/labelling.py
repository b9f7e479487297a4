import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone

from annotate.models.pairs import Pair, Response


class Side(models.TextChoices):
    """Which of a pair's responses stands on the left of the screen."""

    A = "a", "Response A"
    B = "b", "Response B"


class Verdict(models.TextChoices):
    """In terms of the pair's stored responses, whatever side they were shown on."""

    A = "a", "A is better"
    B = "b", "B is better"
    TIE = "tie", "Tie"
    BOTH_BAD = "both_bad", "Both are bad"


class Lease(models.Model):
    """A pair held by an annotator for a while."""

    pair = models.ForeignKey(Pair, on_delete=models.CASCADE, related_name="leases")
    annotator = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="leases")
    left_side = models.CharField(max_length=1, choices=Side.choices)
    created_at = models.DateTimeField(
        default=timezone.now, help_text="An annotator's leases are shown oldest first."
    )
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["pair", "annotator"], name="one_lease_per_pair_and_annotator")
        ]
        indexes = [models.Index(fields=["annotator", "expires_at"])]

    def __str__(self) -> str:
        return f"{self.pair} held by {self.annotator}"


class Judgement(models.Model):
    """The fields a preference and each of its revisions share."""

    verdict = models.CharField(max_length=10, choices=Verdict.choices)
    strength = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        help_text="1 negligibly, 2 slightly, 3 better, 4 significantly better; empty: not asked.",
    )
    rationale = models.TextField(blank=True)
    edited_response = models.ForeignKey(
        Response,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="An annotator's better version of one response; preferred to the one it came from.",
    )
    edited_side = models.CharField(
        max_length=1, choices=Side.choices, blank=True, help_text="Which response was edited."
    )
    shown_left = models.CharField(max_length=1, choices=Side.choices)
    duration_ms = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="From first paint to the verdict, without the time hidden or idle.",
    )
    guidelines_version = models.PositiveIntegerField(default=1)
    simulated_rule = models.CharField(max_length=80, blank=True, help_text="Empty when a person judged.")

    class Meta:
        abstract = True


class Preference(Judgement):
    """One annotator's verdict on one pair; earlier versions are kept in `PreferenceRevision`."""

    pair = models.ForeignKey(Pair, on_delete=models.CASCADE, related_name="preferences")
    annotator = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="preferences"
    )
    client_id = models.UUIDField(
        default=uuid.uuid4,
        unique=True,
        help_text="Made by the browser; a double submit carries the same one.",
    )
    version = models.PositiveIntegerField(
        default=0,
        help_text="Counts the changes; a copy of what was said before one, arriving late, changes nothing.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["pair", "annotator"], name="one_preference_per_pair_and_annotator"
            )
        ]
        indexes = [models.Index(fields=["annotator", "-created_at"])]

    def __str__(self) -> str:
        return f"{self.get_verdict_display()}: {self.pair} by {self.annotator}"

    @property
    def stamp(self) -> str:
        """Names the label as it is now: once it is changed, or given anew, it has another one."""
        return f"{self.pk}.{self.version}"


class PreferenceRevision(Judgement):
    """What a preference said, and what became of it; written once, never changed."""

    class Action(models.TextChoices):
        RECORDED = "recorded", "Recorded"
        CHANGED = "changed", "Changed"
        UNDONE = "undone", "Undone"

    pair = models.ForeignKey(Pair, on_delete=models.CASCADE, related_name="revisions")
    annotator = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    action = models.CharField(max_length=10, choices=Action.choices)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.get_action_display()}: {self.pair} by {self.annotator}"


class Skip(models.Model):
    """An annotator passed on a pair; it does not come back to them."""

    pair = models.ForeignKey(Pair, on_delete=models.CASCADE, related_name="skips")
    annotator = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="skips")
    shown_left = models.CharField(
        max_length=1, choices=Side.choices, blank=True, help_text="Empty when it was not held."
    )
    client_id = models.UUIDField(null=True, blank=True, help_text="That of the form which was passed on.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["pair", "annotator"], name="one_skip_per_pair_and_annotator")
        ]

    def __str__(self) -> str:
        return f"{self.pair} skipped by {self.annotator}"


class Undo(models.Model):
    """A label or skip that was taken back: by which request, and which one, so that neither counts again."""

    pair = models.ForeignKey(Pair, on_delete=models.CASCADE, related_name="undos")
    annotator = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    client_id = models.UUIDField(
        default=uuid.uuid4,
        unique=True,
        help_text="Made by the browser; the same undo sent again carries the same one.",
    )
    act_id = models.UUIDField(
        null=True,
        blank=True,
        db_index=True,
        help_text="The client id of the label or skip; a copy of it that comes late is refused.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.pair} taken back by {self.annotator}"


class Draft(models.Model):
    """What an annotator has begun to say of a pair and not submitted; gone with the verdict."""

    pair = models.ForeignKey(Pair, on_delete=models.CASCADE, related_name="drafts")
    annotator = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="drafts")
    content = models.JSONField(
        default=dict,
        help_text="Verdict, strength, rationale and edit, as the screen shows them.",
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["pair", "annotator"], name="one_draft_per_pair_and_annotator")
        ]

    def __str__(self) -> str:
        return f"draft on {self.pair} by {self.annotator}"
