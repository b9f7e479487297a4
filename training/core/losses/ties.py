"""Losses with a model of ties (arXiv:2409.17431), pure functions of d = βΔ computed in log space.

P(win) is the probability that chosen is called better, P(loss) that rejected is, P(tie) that neither is; they
add up to 1. Every tensor has shape (pairs,).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass(frozen=True)
class VerdictLogProbs:
    """log P(win), log P(tie) and log P(loss) of some pairs, each of shape (pairs,)."""

    win: Tensor
    tie: Tensor
    loss: Tensor


def rao_kupper(d: Tensor, *, nu: float) -> VerdictLogProbs:
    """Rao and Kupper's model (1967), ν ≥ 1, as DPO-RK in arXiv:2409.17431.

    P(win) = σ(d − ln ν), P(loss) = σ(−d − ln ν), P(tie) = (ν²−1)·σ(d − ln ν)·σ(−d − ln ν). ν = 1 knows no
    ties and is DPO's Bradley–Terry model.
    """
    win = logsigmoid(d - math.log(nu))
    loss = logsigmoid(-d - math.log(nu))
    return VerdictLogProbs(win=win, tie=_log(nu * nu - 1) + win + loss, loss=loss)


def davidson(d: Tensor, *, nu: float) -> VerdictLogProbs:
    """Davidson's model (1970), ν ≥ 0, as DPO-D in arXiv:2409.17431.

    P(win) = 1/N, P(loss) = e^−d/N, P(tie) = 2ν·e^(−d/2)/N with N = 1 + e^−d + 2ν·e^(−d/2). ν = 0 knows no
    ties and is DPO's Bradley–Terry model.
    """
    if nu == 0:
        return VerdictLogProbs(win=logsigmoid(d), tie=torch.full_like(d, -math.inf), loss=logsigmoid(-d))
    zero, log_weight = torch.zeros_like(d), math.log(2 * nu)
    # Numerator and denominator are divided by the numerator, so that a probability near 1 keeps its digits.
    return VerdictLogProbs(
        win=-_log_sum(zero, -d, log_weight - d / 2),
        tie=-_log_sum(zero, d / 2 - log_weight, -d / 2 - log_weight),
        loss=-_log_sum(zero, d, log_weight + d / 2),
    )


def verdict_loss(log_probs: VerdictLogProbs, *, p: Tensor | float, tie: Tensor) -> Tensor:
    """−log P(tie) where `tie` (bool) holds, else −p·log P(win) − (1−p)·log P(loss), shape (pairs,)."""
    decided = -p * log_probs.win - (1 - p) * log_probs.loss
    return torch.where(tie, -log_probs.tie, decided)


def _log_sum(*exponents: Tensor) -> Tensor:
    """log Σ e^exponent, shape (pairs,)."""
    return torch.logsumexp(torch.stack(exponents), dim=0)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf
