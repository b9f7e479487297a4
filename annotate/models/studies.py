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


class Role(models.TextChoices):
    LEAD = "lead", "Lead"
    ANNOTATOR = "annotator", "Annotator"
    VIEWER = "viewer", "Viewer"


class Membership(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "study"], name="one_membership_per_user_and_study")
        ]

    def __str__(self) -> str:
        return f"{self.user} · {self.role} · {self.study}"
