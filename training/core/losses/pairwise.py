"""The preference losses, pure functions of log-ratios, in the symbols of arXiv:2305.18290.

    h(y) = log π_θ(y|x) − log π_ref(y|x)      Δ = h(y_w) − h(y_l)      reward(y) = β·h(y)      margin = β·Δ

Every tensor has shape (pairs,), in nats; every loss returns one value per pair, shape (pairs,).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from training.core.run.config import LossSettings


@dataclass(frozen=True)
class PairLogps:
    """Summed completion log-probs of some pairs, their lengths in tokens, and p = P(chosen is better)."""

    policy_chosen: Tensor
    policy_rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    p: Tensor

    @property
    def chosen_log_ratio(self) -> Tensor:
        """h(y_w)."""
        return self.policy_chosen - self.reference_chosen

    @property
    def rejected_log_ratio(self) -> Tensor:
        """h(y_l)."""
        return self.policy_rejected - self.reference_rejected

    @property
    def delta(self) -> Tensor:
        """Δ = h(y_w) − h(y_l)."""
        return self.chosen_log_ratio - self.rejected_log_ratio


def preference_loss(logps: PairLogps, *, settings: LossSettings) -> Tensor:
    """The configured loss of each pair, shape (pairs,)."""
    beta = settings.beta
    match settings.name:
        case "dpo":
            return dpo_loss(logps.delta, beta=beta, p=logps.p)
        case "cdpo":
            return cdpo_loss(logps.delta, beta=beta, label_smoothing=settings.label_smoothing or 0.0)
        case "ipo":
            per_token_delta = (
                logps.chosen_log_ratio / logps.chosen_tokens
                - logps.rejected_log_ratio / logps.rejected_tokens
            )
            return ipo_loss(per_token_delta, beta=beta)
        case "ipo_sum":
            return ipo_loss(logps.delta, beta=beta)
        case "hinge":
            return hinge_loss(logps.delta, beta=beta)
    raise ValueError(f"loss {settings.name} has no function")


def dpo_loss(delta: Tensor, *, beta: float, p: Tensor | float = 1.0) -> Tensor:
    """−p·log σ(βΔ) − (1−p)·log σ(−βΔ): DPO, equation 7 of arXiv:2305.18290, with a soft label p.

    p = 1 is DPO itself; the optimum of a pair is at βΔ = logit p.
    """
    return -p * logsigmoid(beta * delta) - (1 - p) * logsigmoid(-beta * delta)


def cdpo_loss(delta: Tensor, *, beta: float, label_smoothing: float) -> Tensor:
    """−(1−ε)·log σ(βΔ) − ε·log σ(−βΔ): conservative DPO, labels flipped with probability ε."""
    return dpo_loss(delta, beta=beta, p=1 - label_smoothing)


def ipo_loss(delta: Tensor, *, beta: float) -> Tensor:
    """(Δ − 1/(2β))²: IPO, equation 17 of arXiv:2310.12036.

    `ipo` passes h_w/n_w − h_l/n_l (length-averaged), `ipo_sum` the summed Δ; their β differ.
    """
    return (delta - 1 / (2 * beta)) ** 2


def hinge_loss(delta: Tensor, *, beta: float) -> Tensor:
    """max(0, 1 − βΔ): the hinge of SLiC (arXiv:2305.10425) on DPO's margin."""
    return torch.relu(1 - beta * delta)


def rewards(log_ratio: Tensor, *, beta: float) -> Tensor:
    """Implicit reward β·h(y), up to a term of the prompt alone (arXiv:2305.18290, equation 5)."""
    return beta * log_ratio


def margins(logps: PairLogps, *, beta: float) -> Tensor:
    """β·Δ: how much more the policy rewards chosen than rejected."""
    return beta * logps.delta


def accuracies(logps: PairLogps) -> Tensor:
    """1.0 where Δ > 0 (the policy's implicit reward ranks the pair as its label does), else 0.0."""
    return (logps.delta > 0).float()
