"""The losses of a pair's log-ratios, pure functions; symbols as in losses/inputs.py.

Every tensor has shape (pairs,); every loss returns one value per pair, shape (pairs,).
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def dpo_loss(delta: Tensor, *, beta: float, p: Tensor | float = 1.0) -> Tensor:
    """−p·log σ(βΔ) − (1−p)·log σ(−βΔ): DPO, equation 7 of arXiv:2305.18290, with a soft label p.

    p = 1 is DPO itself; the optimum of a pair is at βΔ = logit p.
    """
    return -p * logsigmoid(beta * delta) - (1 - p) * logsigmoid(-beta * delta)


def cdpo_loss(delta: Tensor, *, beta: float, label_smoothing: float) -> Tensor:
    """−(1−ε)·log σ(βΔ) − ε·log σ(−βΔ): conservative DPO, for labels that are wrong with probability ε.

    Mitchell, "A note on DPO with noisy preferences and relationship to IPO" (2023), equation 3.
    """
    return dpo_loss(delta, beta=beta, p=1 - label_smoothing)


def robust_loss(delta: Tensor, *, beta: float, label_smoothing: float) -> Tensor:
    """[−(1−ε)·log σ(βΔ) + ε·log σ(−βΔ)] / (1−2ε): robust DPO of arXiv:2403.00409, section 3.

    Its mean over labels that are flipped with probability ε < ½ is the DPO loss of the true labels. It has no
    lower bound.
    """
    noisy = -(1 - label_smoothing) * logsigmoid(beta * delta) + label_smoothing * logsigmoid(-beta * delta)
    return noisy / (1 - 2 * label_smoothing)


def ipo_loss(delta: Tensor, *, beta: float) -> Tensor:
    """(Δ − 1/(2β))²: IPO, equation 17 of arXiv:2310.12036, where β is called τ.

    `ipo` passes h_w/n_w − h_l/n_l (length-averaged), `ipo_sum` the summed Δ; a β for one is none for the
    other.
    """
    return (delta - 1 / (2 * beta)) ** 2


def hinge_loss(delta: Tensor, *, beta: float) -> Tensor:
    """max(0, 1 − βΔ): the hinge of SLiC (arXiv:2305.10425) on DPO's margin, as in RSO (arXiv:2309.06657)."""
    return torch.relu(1 - beta * delta)


def dpo_norm_loss(delta_per_token: Tensor, *, beta: float) -> Tensor:
    """−log σ(β(h_w/n_w − h_l/n_l)): length-normalised DPO, equation 6 of Tülu 3 (arXiv:2411.15124); β about
    5.
    """
    return -logsigmoid(beta * delta_per_token)
