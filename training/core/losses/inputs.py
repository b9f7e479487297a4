"""What the losses of pairs are computed from, in the symbols of arXiv:2305.18290.

    h(y) = log π_θ(y|x) − log π_ref(y|x)      Δ = h(y_w) − h(y_l)      reward(y) = β·h(y)      margin = β·Δ

y_w is the chosen completion, y_l the rejected one, n_w and n_l are their lengths in tokens, l̄ is the mean
log-prob per token. Log-probs are in nats, summed over the completion's tokens in float32 or float64.
"""

from dataclasses import dataclass

from torch import Tensor

from training.core.errors import TrainingError


@dataclass(frozen=True)
class PairLogps:
    """Summed completion log-probs of some pairs; every tensor has shape (pairs,).

    The reference's are None for losses that use none. `chosen_tokens` and `rejected_tokens` are n_w and n_l,
    `p` is P(chosen is better), `tie` (bool) marks pairs judged equal. Gradients flow through the policy's
    alone.
    """

    policy_chosen: Tensor
    policy_rejected: Tensor
    reference_chosen: Tensor | None
    reference_rejected: Tensor | None
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    p: Tensor
    tie: Tensor

    @property
    def chosen_log_ratio(self) -> Tensor:
        """h(y_w)."""
        return self.policy_chosen - _given(self.reference_chosen)

    @property
    def rejected_log_ratio(self) -> Tensor:
        """h(y_l)."""
        return self.policy_rejected - _given(self.reference_rejected)

    @property
    def delta(self) -> Tensor:
        """Δ = h(y_w) − h(y_l)."""
        return self.chosen_log_ratio - self.rejected_log_ratio

    @property
    def delta_per_token(self) -> Tensor:
        """h(y_w)/n_w − h(y_l)/n_l."""
        chosen = self.chosen_log_ratio / self.chosen_tokens
        return chosen - self.rejected_log_ratio / self.rejected_tokens

    @property
    def chosen_mean_logp(self) -> Tensor:
        """l̄_w, the mean of log π_θ over the chosen completion's tokens; −l̄_w is its NLL per token."""
        return self.policy_chosen / self.chosen_tokens

    @property
    def rejected_mean_logp(self) -> Tensor:
        """l̄_l, the mean of log π_θ over the rejected completion's tokens."""
        return self.policy_rejected / self.rejected_tokens


def _given(reference: Tensor | None) -> Tensor:
    if reference is None:
        raise TrainingError("this loss compares with the reference, whose log-probs were not computed")
    return reference.detach()
