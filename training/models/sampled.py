from django.db import models

from annotate.models import Pair, Prompt, Response
from training.models.policies import Policy
from training.models.rounds import Round


class SampledResponse(models.Model):
    """Where a response came from: policy, settings, exact tokens. The labelling side never reads it.

    A slot is one place to fill: (prompt, round, slot) for a round's training responses, (prompt, policy,
    slot) for held-out responses, which belong to no round. Each is filled at most once, whatever fails.
    """

    response = models.OneToOneField(Response, on_delete=models.CASCADE, related_name="sampled")
    prompt = models.ForeignKey(Prompt, on_delete=models.CASCADE, related_name="sampled_responses")
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="sampled_responses")
    round = models.ForeignKey(
        Round, null=True, blank=True, on_delete=models.CASCADE, related_name="sampled_responses"
    )
    slot = models.PositiveSmallIntegerField()
    settings = models.JSONField(help_text="Every sampling parameter that was sent.")
    seed = models.BigIntegerField(null=True, blank=True, help_text="Where one was sent.")
    prompt_token_ids = models.JSONField()
    token_ids = models.JSONField(help_text="The completion, with EOS when the model produced it.")
    logprobs = models.JSONField(
        help_text="vLLM's, per completion token, in nats: for display and ordering only."
    )
    reference_logp = models.FloatField(
        null=True,
        blank=True,
        help_text="Sum under the reference by vLLM, in nats, where pairs are chosen by margin.",
    )
    finish_reason = models.CharField(max_length=20)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["prompt", "round", "slot"],
                condition=models.Q(round__isnull=False),
                name="one_response_per_prompt_round_and_slot",
            ),
            models.UniqueConstraint(
                fields=["prompt", "policy", "slot"],
                condition=models.Q(round__isnull=True),
                name="one_heldout_response_per_prompt_policy_and_slot",
            ),
        ]
        indexes = [
            models.Index(fields=["round", "prompt"]),
            models.Index(fields=["policy", "round"]),
            # The rows are wide (tokens, log-probs): lists of held-out responses come from this index alone.
            models.Index(
                fields=["policy", "slot", "prompt", "response"],
                condition=models.Q(round__isnull=True),
                name="heldout_responses_of_a_policy",
            ),
        ]

    def __str__(self) -> str:
        return f"slot {self.slot} of prompt {self.prompt_id} from {self.policy}"

    @property
    def token_count(self) -> int:
        return len(self.token_ids)


class Score(models.Model):
    """Log-probs of a response under a policy and the reference, by the `score` stage (sums, in nats)."""

    sampled = models.ForeignKey(SampledResponse, on_delete=models.CASCADE, related_name="scores")
    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="scores")
    policy_logp = models.FloatField()
    reference_logp = models.FloatField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["sampled", "policy"], name="one_score_per_response_and_policy")
        ]

    def __str__(self) -> str:
        return f"score of {self.sampled_id} under {self.policy}"

    def reward(self, *, beta: float) -> float:
        """Implicit reward β·(log π_θ − log π_ref), Rafailov et al. 2023, section 4."""
        return beta * (self.policy_logp - self.reference_logp)


class ChosenPair(models.Model):
    """How the two responses of a pair were picked out of more than two; labelling never reads it."""

    pair = models.OneToOneField(Pair, on_delete=models.CASCADE, related_name="chosen")
    rule = models.CharField(max_length=10, help_text="random, margin or length.")
    candidates = models.PositiveSmallIntegerField(help_text="Different responses there were.")
    margin = models.FloatField(
        null=True, blank=True, help_text="|Δ(A) − Δ(B)|, Δ = log π − log π_ref in nats, by vLLM."
    )

    def __str__(self) -> str:
        return f"pair {self.pair_id} by {self.rule}"


class PairSimilarity(models.Model):
    """How alike the two responses of a training pair are: the share of words that both have, in order."""

    pair = models.OneToOneField(Pair, on_delete=models.CASCADE, related_name="similarity")
    share = models.FloatField(help_text="2·LCS / (words of A + words of B): 0 … 1.")

    class Meta:
        verbose_name_plural = "pair similarities"

    def __str__(self) -> str:
        return f"{self.share:.2f} of {self.pair_id}"
