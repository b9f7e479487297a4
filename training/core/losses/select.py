"""From the settings' name of a loss to its function."""

from torch import Tensor

from training.core.losses.inputs import PairLogps
from training.core.losses.pairwise import (
    cdpo_loss,
    dpo_loss,
    dpo_norm_loss,
    hinge_loss,
    ipo_loss,
    robust_loss,
)
from training.core.losses.reference_free import nll_per_token, orpo_loss, simpo_loss
from training.core.losses.ties import davidson, rao_kupper, verdict_loss
from training.core.run.config import REFERENCE_FREE, LossSettings


def uses_reference(settings: LossSettings) -> bool:
    """Whether the loss compares with the reference; where not, no reference is computed at all."""
    return settings.name not in REFERENCE_FREE


def preference_loss(logps: PairLogps, *, settings: LossSettings) -> Tensor:
    """The configured loss of each pair, α·NLL of the chosen completion included, shape (pairs,).

    Raises ValueError for a loss that is not of pairs (kto: losses/kto.py) or lacks one of its parameters.
    """
    losses = _pair_loss(logps, settings=settings)
    if settings.nll_alpha is None:
        return losses
    return losses + settings.nll_alpha * nll_per_token(logps.chosen_mean_logp)


def _pair_loss(logps: PairLogps, *, settings: LossSettings) -> Tensor:
    beta = settings.beta
    match settings.name:
        case "dpo":
            return dpo_loss(logps.delta, beta=beta, p=logps.p)
        case "cdpo":
            return cdpo_loss(logps.delta, beta=beta, label_smoothing=_set(settings.label_smoothing))
        case "robust":
            return robust_loss(logps.delta, beta=beta, label_smoothing=_set(settings.label_smoothing))
        case "ipo":
            return ipo_loss(logps.delta_per_token, beta=beta)
        case "ipo_sum":
            return ipo_loss(logps.delta, beta=beta)
        case "hinge":
            return hinge_loss(logps.delta, beta=beta)
        case "dpo_norm":
            return dpo_norm_loss(logps.delta_per_token, beta=beta)
        case "simpo":
            chosen, rejected = logps.chosen_mean_logp, logps.rejected_mean_logp
            return simpo_loss(chosen, rejected, beta=beta, gamma=_set(settings.gamma))
        case "orpo":
            chosen, rejected = logps.chosen_mean_logp, logps.rejected_mean_logp
            return orpo_loss(chosen, rejected, lambda_=_set(settings.lambda_))
        case "rao_kupper":
            log_probs = rao_kupper(beta * logps.delta, nu=_set(settings.nu))
            return verdict_loss(log_probs, p=logps.p, tie=logps.tie)
        case "davidson":
            log_probs = davidson(beta * logps.delta, nu=_set(settings.nu))
            return verdict_loss(log_probs, p=logps.p, tie=logps.tie)
    raise ValueError(f"{settings.name} is not a loss of pairs")


def _set(value: float | None) -> float:
    if value is None:
        raise ValueError("a parameter of the loss is not set; parse_config sets all of them")
    return value
