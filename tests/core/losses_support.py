"""Log-probs to compute losses of, and gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from training.core.losses.inputs import PairLogps
from training.core.run.config import LOSS_KEYS, LossSettings, parse_config

PAIR_LOSSES = tuple(name for name in LOSS_KEYS if name != "kto")


def settings(name: str, **changes: Any) -> LossSettings:
    """The settings of a loss as a configuration that names it alone has them, label smoothing 0.1."""
    smoothing = {"label_smoothing": 0.1} if "label_smoothing" in LOSS_KEYS[name] else {}
    return parse_config({"base_model": "b", "loss": {"name": name, **smoothing, **changes}}).loss


def logps(
    *,
    policy: tuple[float, float],
    reference: tuple[float, float] | None = (0.0, 0.0),
    tokens: tuple[int, int] = (4, 5),
    p: float = 1.0,
    tie: bool = False,
    dtype: torch.dtype = torch.float64,
) -> PairLogps:
    """One pair; the policy's log-probs take gradients."""

    def value(number: float) -> Tensor:
        return torch.tensor([number], dtype=dtype)

    return PairLogps(
        policy_chosen=value(policy[0]).requires_grad_(),
        policy_rejected=value(policy[1]).requires_grad_(),
        reference_chosen=None if reference is None else value(reference[0]),
        reference_rejected=None if reference is None else value(reference[1]),
        chosen_tokens=value(tokens[0]),
        rejected_tokens=value(tokens[1]),
        p=value(p),
        tie=torch.tensor([tie]),
    )


def gradient(function: Callable[[Tensor], Tensor], *, at: float) -> float:
    """The derivative of a function of one number, in float64."""
    point = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(function(point), point)
    return float(found)
