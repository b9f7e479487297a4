"""KTO: a loss of single completions that are desirable or not, against a common reference point z."""

import torch
from torch import Tensor

from training.core.run.config import LossSettings


def kto_loss(log_ratio: Tensor, *, desirable: Tensor, z: Tensor, settings: LossSettings) -> Tensor:
    """λ_D·(1 − σ(β(h − z))) where `desirable` (bool) holds, else λ_U·(1 − σ(β(z − h))), shape (examples,).

    Equation 7 of arXiv:2402.01306 (their λ_y − v(x, y)). `log_ratio` is h of each example, shape
    (examples,); z, a scalar from `reference_point`, takes no gradient.
    """
    desirable_weight, undesirable_weight = settings.desirable_weight, settings.undesirable_weight
    if desirable_weight is None or undesirable_weight is None:
        raise ValueError("kto needs desirable_weight and undesirable_weight")
    advantage = settings.beta * (log_ratio - z.detach())
    # 1 − σ(a) is σ(−a), which keeps its digits where σ(a) is nearly 1.
    good, bad = torch.sigmoid(-advantage), torch.sigmoid(advantage)
    return torch.where(desirable, desirable_weight * good, undesirable_weight * bad)


def reference_point(mismatched_log_ratios: Tensor) -> Tensor:
    """z = max(0, mean of h over mismatched prompts and completions), detached, a scalar in nats.

    The estimate of KL(π_θ‖π_ref) in section 4.1 of arXiv:2402.01306; (completions,) of the whole batch go in,
    from all passes and all ranks. An empty batch gives 0.
    """
    if not mismatched_log_ratios.numel():
        return mismatched_log_ratios.new_zeros(())
    return mismatched_log_ratios.detach().mean().clamp(min=0)
