"""What a policy's log-probs say a completion is worth to it: figures to watch, of no effect on training."""

from torch import Tensor

from training.core.losses.inputs import PairLogps
from training.core.losses.select import uses_reference
from training.core.run.config import LossSettings


def pair_rewards(logps: PairLogps, *, settings: LossSettings) -> tuple[Tensor, Tensor]:
    """The implicit rewards β·h(y) of chosen and rejected, shape (pairs,), up to a term of the prompt alone.

    Equation 5 of arXiv:2305.18290, for every loss with a reference, also those whose loss is per token:
    margin = β·Δ, and a pair is ranked as its label says where Δ > 0. Without a reference, a completion's mean
    log-prob per token stands in: β·l̄ (simpo, equation 4 of arXiv:2405.14734) and λ·l̄ (orpo), as TRL reports
    them.
    """
    if uses_reference(settings):
        return settings.beta * logps.chosen_log_ratio, settings.beta * logps.rejected_log_ratio
    scale = settings.beta if settings.lambda_ is None else settings.lambda_
    return scale * logps.chosen_mean_logp, scale * logps.rejected_mean_logp
