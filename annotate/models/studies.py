from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models


class Study(models.Model):
    """One question put to one model: its prompts, its people, its guidelines."""

    class State(models.TextChoices):
        ACTIVE = "active", "Active"
        PAUSED = "paused", "Paused"
        CLOSED = "closed", "Closed"

    name = models.CharField(max_length=120, unique=True)
    slug = models.SlugField(max_length=60, unique=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.ACTIVE)
    guidelines = models.TextField(blank=True, help_text="Markdown, shown beside every pair.")
    guidelines_version = models.PositiveIntegerField(default=1)
    allow_tie = models.BooleanField(default=True)
    allow_both_bad = models.BooleanField(default=True)
    ask_strength = models.BooleanField(
        default=False, help_text="After a choice, offer to say by how much the response is better."
    )
    allow_edit = models.BooleanField(
        default=True, help_text="Annotators may improve a response; the edit becomes a preferred example."
    )
    practice_pairs = models.PositiveSmallIntegerField(
        default=3, help_text="How many practice pairs somebody judges before the first real one; 0: none."
    )
    gold_share = models.FloatField(
        default=0.0,
        validators=[MinValueValidator(0.0), MaxValueValidator(0.5)],
        help_text="The share of an annotator's pairs that are gold pairs, where the study has any.",
    )
    repeat_share = models.FloatField(
        default=0.03,
        validators=[MinValueValidator(0.0), MaxValueValidator(0.5)],
        help_text="The share of an annotator's pairs that are their own earlier pairs, sides swapped.",
    )
    labels_per_pair = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(20)],
        help_text="How many different annotators judge each pair.",
    )
    lease_seconds = models.PositiveIntegerField(
        default=900, help_text="How long a pair stays with an annotator before it goes back to the queue."
    )
    queue_notice = models.CharField(
        max_length=300,
        blank=True,
        help_text="What the empty labelling screen says is going on, for example “Round 2 is training.”",
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "studies"

    def __str__(self) -> str:
        return self.name


class GuidelinesVersion(models.Model):
    """One version of a study's guidelines; each preference says which one was in use."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="guidelines_versions")
    number = models.PositiveIntegerField()
    text = models.TextField(blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["study", "number"], name="one_text_per_guidelines_version")
        ]

    def __str__(self) -> str:
        return f"guidelines {self.number} of {self.study}"


class Role(models.TextChoices):
    LEAD = "lead", "Lead"
    ANNOTATOR = "annotator", "Annotator"
    VIEWER = "viewer", "Viewer"


class Membership(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices)
    is_paused = models.BooleanField(default=False, help_text="Gets no pairs until a lead resumes them.")
    in_training_sets = models.BooleanField(
        default=True, help_text="Whether this person's labels are used for training."
    )
    practice_done_at = models.DateTimeField(null=True, blank=True)
    guidelines_read = models.PositiveIntegerField(
        null=True, blank=True, help_text="The version of the guidelines that this person opened last."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "study"], name="one_membership_per_user_and_study")
        ]

    def __str__(self) -> str:
        return f"{self.user} · {self.role} · {self.study}"


class Invite(models.Model):
    """A link that brings people into a study: it expires, can be limited in uses, and can be revoked.

    Only the hash of the link's secret is kept.
    """

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="invites")
    token_hash = models.CharField(max_length=64, unique=True, help_text="sha256 of the secret in the link.")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.ANNOTATOR)
    note = models.CharField(max_length=120, blank=True, help_text="Whom the link is for.")
    max_uses = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: any number.")
    uses = models.PositiveIntegerField(default=0)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"invite {self.pk} to {self.study}"
