"""What the steps so far of a preference run warn of, while it still goes on. No torch.

The sentences are those of `diagnostics.warnings_of`, which looks at every example when the run has ended.
"""

from collections.abc import Callable, Sequence
from statistics import fmean

from training.core.diagnostics import displaced, far, follows_length, unchanged
from training.core.loss_course import BATCHES, Scale, diverged, step_loss
from training.core.run.records import StepMetrics

# A run that has gone so far, and whose learning rate no longer rises, should have moved something.
STEPS_TO_MOVE = 10


def step_alarms(
    first: StepMetrics, recent: Sequence[StepMetrics], *, pairs_per_step: int, scale: Scale
) -> tuple[str, ...]:
    """What the latest steps, in order, warn of beside the run's first one; a sentence each.

    `pairs_per_step` is the size of a batch where a step's line does not say it.
    """
    if len(recent) < BATCHES:
        return ()
    start, *losses = (step_loss(step, usual=pairs_per_step) for step in (first, *recent))
    chosen = _change(first, recent, lambda step: step.log_ratio_per_token_chosen)
    found = (
        diverged(start, recent=losses, scale=scale),
        _moves_nothing(first, recent),
        displaced(margin=_change(first, recent, lambda step: step.rewards_margins), chosen=chosen),
        follows_length(
            _mean(recent, lambda step: step.length_margin_correlation), pairs=pairs_per_step * len(recent)
        ),
        far(_mean(recent, lambda step: step.absolute_log_ratio_per_token)),
    )
    return tuple(sentence for sentence in found if sentence)


def _moves_nothing(first: StepMetrics, recent: Sequence[StepMetrics]) -> str:
    """Only a fresh policy is known to start at 0 for every text; others differ from batch to batch."""
    starts_at_reference = first.log_ratio_per_token_chosen == 0 == first.log_ratio_per_token_rejected
    is_warming_up = (recent[-1].learning_rate or 0.0) > (recent[0].learning_rate or 0.0)
    if not starts_at_reference or is_warming_up or recent[-1].step < STEPS_TO_MOVE:
        return ""
    return unchanged(
        chosen=max((step.log_ratio_per_token_chosen or 0.0 for step in recent), key=abs),
        rejected=max((step.log_ratio_per_token_rejected or 0.0 for step in recent), key=abs),
    )


def _mean(steps: Sequence[StepMetrics], value: Callable[[StepMetrics], float | None]) -> float | None:
    known = [number for number in map(value, steps) if number is not None]
    return fmean(known) if known else None


def _change(
    first: StepMetrics, recent: Sequence[StepMetrics], value: Callable[[StepMetrics], float | None]
) -> float | None:
    start, now = value(first), _mean(recent, value)
    return None if start is None or now is None else now - start
