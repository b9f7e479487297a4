from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from annotate.models import Pair, Prompt, Study
from training.models.policies import Policy
from training.models.rounds import Run

SHARE = [MinValueValidator(0.0), MaxValueValidator(1.0)]


class EvaluationPlan(models.Model):
    """How much a study has people evaluate, and what a policy must reach before rounds go on from it.

    A threshold that is empty is not checked. A study without a row has the defaults.
    """

    study = models.OneToOneField(Study, on_delete=models.CASCADE, related_name="evaluation_plan")
    evaluation_share = models.FloatField(
        default=0.2,
        validators=[MinValueValidator(0.0), MaxValueValidator(0.8)],
        help_text="Blind evaluation pairs as a share of all pairs that annotators see.",
    )
    half_width = models.FloatField(
        default=0.1,
        validators=[MinValueValidator(0.01), MaxValueValidator(0.4)],
        help_text="How exactly a win rate is to be known: half the width of its 95 % interval.",
    )
    win_rate_over_reference = models.FloatField(null=True, blank=True, default=0.5, validators=SHARE)
    win_rate_over_parent = models.FloatField(null=True, blank=True, default=0.5, validators=SHARE)
    length_growth = models.FloatField(
        null=True, blank=True, default=1.5, validators=[MinValueValidator(1.0), MaxValueValidator(100.0)]
    )
    kl = models.FloatField(
        null=True, blank=True, default=50.0, validators=[MinValueValidator(0.1), MaxValueValidator(100000.0)]
    )
    displacement = models.FloatField(
        null=True, blank=True, default=0.5, validators=[MinValueValidator(0.01), MaxValueValidator(100.0)]
    )
    cut_share = models.FloatField(null=True, blank=True, default=0.5, validators=SHARE)

    def __str__(self) -> str:
        return f"evaluation plan of {self.study}"


class EvaluationPair(models.Model):
    """One comparison of a policy with an opponent on a held-out prompt; labelling never reads it.

    `pair` is what people judge. It is empty where both wrote the same text: a tie without a question.
    """

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="evaluation_pairs")
    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="evaluation_pairs")
    opponent = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="+")
    prompt = models.ForeignKey(Prompt, on_delete=models.CASCADE, related_name="+")
    slot = models.PositiveSmallIntegerField(help_text="Which of both policies' responses to the prompt.")
    pair = models.OneToOneField(
        Pair, null=True, blank=True, on_delete=models.CASCADE, related_name="evaluation"
    )
    policy_is_a = models.BooleanField(help_text="Whether response A of the pair is the policy's.")
    policy_tokens = models.PositiveIntegerField(default=0)
    opponent_tokens = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["policy", "opponent", "prompt", "slot"],
                name="one_evaluation_pair_per_slot_and_opponent",
            ),
            models.CheckConstraint(
                condition=~models.Q(policy=models.F("opponent")), name="a_policy_does_not_meet_itself"
            ),
        ]
        indexes = [models.Index(fields=["study", "policy", "opponent"])]

    def __str__(self) -> str:
        return f"{self.policy} against {self.opponent} on prompt {self.prompt_id}"


class PrequentialTest(models.Model):
    """How a run's new labels tested the policy that had not seen them, before the first training step."""

    run = models.OneToOneField(Run, on_delete=models.CASCADE, related_name="prequential_test")
    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="prequential_tests")
    preferences = models.PositiveIntegerField(help_text="Usable preferences of the run's own round.")
    agreed = models.PositiveIntegerField(help_text="Those whose chosen response had the higher reward.")
    equal = models.PositiveIntegerField(default=0, help_text="Those whose two rewards were the same.")

    def __str__(self) -> str:
        return f"{self.agreed} of {self.preferences} for {self.policy}"


class GateOverride(models.Model):
    """A lead went on from a policy that fails the gate, and why; written once, never changed."""

    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="gate_overrides")
    reason = models.TextField()
    failures = models.JSONField(help_text="The sentences of the checks that failed then.")
    round_number = models.PositiveIntegerField(help_text="The round that was opened.")
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"override for {self.policy} by {self.actor}"
