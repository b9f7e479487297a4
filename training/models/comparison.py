from django.conf import settings
from django.db import models

from annotate.models import Prompt, Response, Study
from training.models.policies import Policy


class ResponseChange(models.Model):
    """How far two policies' held-out responses to a prompt are apart; kept, for it is costly to measure.

    Responses never change, so a row is never measured again. `share` is symmetric; the word counts say which
    of the two grew.
    """

    earlier = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="+")
    later = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="+")
    slot = models.PositiveSmallIntegerField()
    prompt = models.ForeignKey(Prompt, on_delete=models.CASCADE, related_name="+")
    share = models.FloatField(help_text="Of words outside the longest common subsequence: 0 … 1.")
    earlier_words = models.PositiveIntegerField()
    later_words = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["earlier", "later", "slot", "prompt"],
                name="one_change_per_prompt_slot_and_two_policies",
            )
        ]

    def __str__(self) -> str:
        return f"change from {self.earlier} to {self.later} on prompt {self.prompt_id}"


class PolicySummary(models.Model):
    """Figures over a policy's held-out responses, for all prompts or those with one tag.

    `responses` and `last_score` say what was counted: a summary is made anew when they have moved on.
    """

    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="summaries")
    tag = models.CharField(max_length=100, blank=True, help_text="Empty: all held-out prompts.")
    responses = models.PositiveIntegerField(help_text="Held-out responses of the policy when it was made.")
    last_score = models.BigIntegerField(help_text="Id of the policy's newest score then; 0 without any.")
    values = models.JSONField()
    made_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "policy summaries"
        constraints = [
            models.UniqueConstraint(fields=["policy", "tag"], name="one_summary_per_policy_and_tag")
        ]

    def __str__(self) -> str:
        return f"figures of {self.policy}{f' on {self.tag}' if self.tag else ''}"


class Trial(models.Model):
    """A text that a lead put to two to four policies at once."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="trials")
    messages = models.JSONField(help_text="The chat that was asked, ending with the user.")
    content_hash = models.CharField(max_length=64, help_text="As of `Prompt`, to find the same chat.")
    sampling = models.JSONField(help_text="Every sampling parameter that was sent.")
    heartbeat_at = models.DateTimeField(help_text="When the process that asks the engine was last alive.")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["study", "-id"], name="training_trial_newest")]

    def __str__(self) -> str:
        return f"trial {self.pk} of {self.study}"

    @property
    def preview(self) -> str:
        """The beginning of the last message, on one line."""
        text = " ".join(str(self.messages[-1]["content"])[:400].split())
        return text if len(text) <= 120 else text[:119].rstrip() + "…"


class TrialAnswer(models.Model):
    """What one policy answers in a trial, written down while it is being generated."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        WRITING = "writing", "Writing"
        DONE = "done", "Done"
        STOPPED = "stopped", "Stopped"
        FAILED = "failed", "Failed"

    trial = models.ForeignKey(Trial, on_delete=models.CASCADE, related_name="answers")
    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="+")
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    note = models.CharField(max_length=500, blank=True, help_text="What it waits for, or why it failed.")
    text = models.TextField(blank=True)
    prompt_token_ids = models.JSONField(default=list)
    token_ids = models.JSONField(default=list)
    logprobs = models.JSONField(default=list)
    finish_reason = models.CharField(max_length=20, blank=True)
    seconds = models.FloatField(null=True, blank=True, help_text="From its first token to its last.")
    response = models.OneToOneField(
        Response,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="What the labelling queue got of it.",
    )

    class Meta:
        ordering = ["policy__number"]
        constraints = [
            models.UniqueConstraint(fields=["trial", "policy"], name="one_answer_per_trial_and_policy")
        ]

    def __str__(self) -> str:
        return f"answer of {self.policy} in trial {self.trial_id}"

    @property
    def is_active(self) -> bool:
        return self.state in (self.State.WAITING, self.State.WRITING)
