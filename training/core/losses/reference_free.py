"""The losses that need no reference, pure functions of the policy's mean log-probs per token, l̄.

Every tensor has shape (pairs,); every loss returns one value per pair, shape (pairs,).
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def simpo_loss(chosen: Tensor, rejected: Tensor, *, beta: float, gamma: float) -> Tensor:
    """−log σ(β(l̄_w − l̄_l) − γ): SimPO, equation 6 of arXiv:2405.14734, of l̄_w and l̄_l.

    γ is the target of the whole margin, as in that equation (and TRL's `simpo_gamma`); where people state a
    ratio γ/β, the γ here is that ratio times β.
    """
    return -logsigmoid(beta * (chosen - rejected) - gamma)


def orpo_loss(chosen: Tensor, rejected: Tensor, *, lambda_: float) -> Tensor:
    """−l̄_w − λ·log σ(log odds(l̄_w) − log odds(l̄_l)): ORPO, equations 4, 6 and 7 of arXiv:2403.07691.

    log odds(l̄) = l̄ − log(1 − e^l̄). The first term is the NLL of the chosen completion alone, averaged over
    its tokens (TRL's covers the prompt too, averaged over the batch's tokens).
    """
    log_odds_ratio = (chosen - rejected) - (log_one_minus_exp(chosen) - log_one_minus_exp(rejected))
    return nll_per_token(chosen) - lambda_ * logsigmoid(log_odds_ratio)


def nll_per_token(chosen: Tensor) -> Tensor:
    """−l̄_w: what Iterative RPO (arXiv:2404.19733, equation 1) adds α times to a loss of pairs.

    A mean over each completion's own tokens, so that every pair counts alike whatever its length.
    """
    return -chosen


def log_one_minus_exp(u: Tensor) -> Tensor:
    """log(1 − e^u) for u ≤ 0, finite with a finite gradient everywhere.

    Below −ln 2 through log1p, above through expm1, each where it loses no digits (Mächler, "Accurately
    computing log(1 − exp(−|a|))", 2012). u is kept a rounding error below 0, where the true value is −∞.
    """
    below_zero = u.clamp(max=-torch.finfo(u.dtype).eps)
    small = below_zero < -math.log(2)
    # Each branch sees harmless values where the other is chosen: inf times 0 would be a NaN in the gradient.
    by_log1p = torch.log1p(-torch.exp(torch.where(small, below_zero, -1.0)))
    by_expm1 = torch.log(-torch.expm1(torch.where(small, -0.5, below_zero)))
    return torch.where(small, by_log1p, by_expm1)
