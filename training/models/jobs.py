from django.conf import settings
from django.db import models

from annotate.models import Study
from training.models.demonstrations import DemonstrationRun
from training.models.policies import Policy
from training.models.rounds import Round, Run


class Job(models.Model):
    """A piece of background work. The row is the truth; RQ only carries the id of an attempt at it.

    States move by compare-and-swap on (state, attempt_number); see `training.services.jobs`.
    """

    class Kind(models.TextChoices):
        SAMPLING = "sampling", "Sampling"
        HELDOUT = "heldout", "Held-out sampling"
        RUN = "run", "Training run"
        LAST_LOOK = "last_look", "Last look"
        SCORING = "scoring", "Scoring"
        REFERENCE = "reference", "Reference"
        MERGE = "merge", "Merging"
        SFT = "sft", "Learning from demonstrations"

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="jobs")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    round = models.ForeignKey(Round, null=True, blank=True, on_delete=models.CASCADE, related_name="jobs")
    policy = models.ForeignKey(Policy, null=True, blank=True, on_delete=models.CASCADE, related_name="jobs")
    run = models.OneToOneField(Run, null=True, blank=True, on_delete=models.CASCADE, related_name="job")
    demonstration_run = models.OneToOneField(
        DemonstrationRun, null=True, blank=True, on_delete=models.CASCADE, related_name="job"
    )
    attempt_number = models.PositiveIntegerField(
        default=1, help_text="The fencing token: only this attempt writes."
    )
    cancel_requested = models.BooleanField(default=False)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    unit = models.CharField(
        max_length=20, blank=True, help_text="What `done` counts: responses, steps, completions."
    )
    message = models.CharField(max_length=300, blank=True, help_text="What it is doing now, for the page.")
    cause = models.TextField(blank=True, help_text="Why it failed, with the remedy.")
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["round"], condition=models.Q(kind="sampling"), name="one_sampling_job_per_round"
            ),
            models.UniqueConstraint(
                fields=["policy"], condition=models.Q(kind="heldout"), name="one_heldout_job_per_policy"
            ),
            models.UniqueConstraint(
                fields=["policy"], condition=models.Q(kind="scoring"), name="one_scoring_job_per_policy"
            ),
            models.UniqueConstraint(
                fields=["round"], condition=models.Q(kind="reference"), name="one_reference_job_per_round"
            ),
            models.UniqueConstraint(
                fields=["policy"], condition=models.Q(kind="merge"), name="one_merge_job_per_policy"
            ),
        ]
        indexes = [models.Index(fields=["study", "state"])]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} job {self.pk}"

    @property
    def is_active(self) -> bool:
        return self.state in (self.State.QUEUED, self.State.RUNNING)


class Attempt(models.Model):
    """One try at a job, by one process; `number` is the fencing token of every write it makes."""

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"
        LOST = "lost", "Lost"
        MADE_WAY = "made_way", "Made way"

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    host = models.CharField(max_length=200, blank=True)
    pid = models.PositiveIntegerField(null=True, blank=True)
    pid_started = models.CharField(
        max_length=40, blank=True, help_text="Start time of the process, as /proc gives it."
    )
    lease_until = models.DateTimeField(null=True, blank=True)
    cause = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    enqueued_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["job", "number"]
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="one_attempt_per_number_and_job")
        ]
        indexes = [models.Index(fields=["state", "lease_until"])]

    def __str__(self) -> str:
        return f"attempt {self.number} at job {self.job_id}"
