"""The course of a run's loss: its means at both ends, and whether it came apart beyond chance. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, isfinite, log, sqrt
from typing import Any

from training.core.run.records import DemonstrationMetrics, StepMetrics

# So many steps, or fewer, make up the loss that is shown: one batch of a few examples says little.
SHOWN_STEPS = 10
# From so many steps on the worst one is left out before a loss is called apart, and so many in a row make up
# the highest one: one bad batch is no divergence.
BATCHES = 3
# Never call a loss apart below this multiple of what it is compared with.
APART = 1.5
# Standard errors that a mean must lie above what it is compared with.
ERRORS = 2.0
# How widely the losses of single examples spread in runs that went well, in multiples of the mean they
# began with: up to 2.5 on preferences at β = 1 (and in proportion to β above that), less than half per token.
SPREAD = 3.0
SPREAD_PER_TOKEN = 0.5
# Losses of means per token, whose spread does not grow with β.
PER_TOKEN = ("ipo", "dpo_norm", "simpo", "orpo")


@dataclass(frozen=True)
class StepLoss:
    """The mean loss of an optimiser step's batch before its update; `examples` is the size of the batch."""

    step: int
    loss: float
    examples: int


@dataclass(frozen=True)
class Scale:
    """What a loss is measured by: its value where nothing has been learnt (None: not known), and the spread
    of single examples about it, in multiples of it.
    """

    untrained: float | None
    spread: float


def step_loss(step: StepMetrics | DemonstrationMetrics, *, usual: int) -> StepLoss:
    """A step's loss with the size of its batch: the `usual` one where the step's line does not say it."""
    return StepLoss(step=step.step, loss=step.loss, examples=step.examples or usual)


def loss_figures(steps: Sequence[StepLoss]) -> dict[str, Any]:
    """What result.json says of the loss: of the first and the last step, and means over some at both ends."""
    return {
        "loss_first": steps[0].loss,
        "loss_last": steps[-1].loss,
        "loss_start": mean_loss(first_steps(steps)),
        "loss_end": mean_loss(last_steps(steps)),
        "loss_steps": len(last_steps(steps)),
    }


# Of the negative log-likelihood per token: a base model has its own start.
DEMONSTRATIONS = Scale(untrained=None, spread=SPREAD_PER_TOKEN)


def preference_scale(loss: Mapping[str, Any]) -> Scale:
    """The scale of a loss on preferences, from the object under "loss" in config.json."""
    name, beta = str(loss.get("name", "dpo")), float(loss.get("beta") or 0.1)
    spread = SPREAD if name in PER_TOKEN else SPREAD * max(1.0, beta)
    return Scale(untrained=_untrained(name, beta=beta, loss=loss), spread=spread)


def mean_loss(steps: Sequence[StepLoss]) -> float:
    """The mean over the examples of some steps; a last batch that is smaller counts less."""
    return sum(one.loss * one.examples for one in steps) / sum(one.examples for one in steps)


def first_steps(steps: Sequence[StepLoss]) -> Sequence[StepLoss]:
    """The first steps that are averaged: half of them, ten at most, one at least."""
    return steps[: _window(steps)]


def last_steps(steps: Sequence[StepLoss]) -> Sequence[StepLoss]:
    """The last steps that are averaged: half of them, ten at most, one at least."""
    return steps[len(steps) - _window(steps) :]


def loss_alarms(steps: Sequence[StepLoss], *, scale: Scale) -> tuple[str, ...]:
    """What the loss of all steps of a run, in order, warns of: divergence, or a rise that was made good."""
    recent = last_steps(steps) if len(steps) > 1 else ()
    if apart := diverged(steps[0], recent=recent, scale=scale, start=first_steps(steps)):
        return (apart,)
    return tuple(filter(None, [_came_back(steps, scale=scale)]))


def diverged(
    first: StepLoss, *, recent: Sequence[StepLoss], scale: Scale, start: Sequence[StepLoss] = ()
) -> str:
    """What a loss that has come apart is told with, or nothing.

    It has where the mean of the `recent` steps, without the worst of them, lies above the run's beginning
    and above a loss that has learnt nothing, by more than batches of that size bring by chance.
    """
    if not all(isfinite(one.loss) for one in (first, *recent)):
        return "divergence: the loss is not a finite number; the learning rate is too high"
    if not recent:
        return ""
    kept = sorted(recent, key=lambda one: one.loss)[: -1 if len(recent) >= BATCHES else None]
    baseline = _baseline(first, start=start, scale=scale)
    if mean_loss(kept) <= _limit(baseline, examples=_examples(kept), scale=scale):
        return ""
    return (
        f"divergence: the loss rose from {_start(first, start=start):.3g} to {mean_loss(recent):.3g} "
        f"({_of_steps(recent)}) and stayed there; the learning rate is too high, a tenth of it is a good "
        "next try"
    )


def _came_back(steps: Sequence[StepLoss], *, scale: Scale) -> str:
    """What a loss that rose beyond chance on the way, and not to stay, is told with, or nothing."""
    start, end = first_steps(steps), last_steps(steps)
    before_end = steps[1 : len(steps) - len(end)]
    windows = [before_end[place : place + BATCHES] for place in range(len(before_end) - BATCHES + 1)]
    if not windows:
        return ""
    worst = max(windows, key=mean_loss)
    baseline = _baseline(steps[0], start=start, scale=scale)
    if mean_loss(worst) <= _limit(baseline, examples=_examples(worst), scale=scale):
        return ""
    return (
        f"unsteady loss: it rose from {_start(steps[0], start=start):.3g} to {mean_loss(worst):.3g} "
        f"({_of_steps(worst)}) and came back down to {mean_loss(end):.3g} ({_of_steps(end)}); a lower "
        "learning rate or more pairs per step are steadier"
    )


def _baseline(first: StepLoss, *, start: Sequence[StepLoss], scale: Scale) -> float:
    """What a loss must not exceed: the beginning, or that of knowing nothing where that is more."""
    return max(_start(first, start=start), scale.untrained or 0.0)


def _start(first: StepLoss, *, start: Sequence[StepLoss]) -> float:
    """The run's beginning: the first batch is small, and the first steps may hold the rise already."""
    return min(first.loss, mean_loss(start)) if start else first.loss


def _limit(baseline: float, *, examples: int, scale: Scale) -> float:
    """How high the mean loss of so many examples may be by chance where the true one is the baseline."""
    return baseline * max(APART, 1 + ERRORS * scale.spread / sqrt(examples))


def _untrained(name: str, *, beta: float, loss: Mapping[str, Any]) -> float | None:
    """The loss where the policy is the reference (Δ = 0), or finds both completions equally likely."""
    match name:
        case "orpo":
            return None
        case "simpo":
            return log(1 + exp(float(loss.get("gamma") or 0.0)))
        case "rao_kupper":
            return log(1 + float(loss.get("nu") or 3.0))
        case "davidson":
            return log(2 + 2 * float(loss.get("nu") or 0.0))
        case "ipo" | "ipo_sum":
            return (1 / (2 * beta)) ** 2
        case "hinge":
            return 1.0
        case "kto":
            return 0.5
    return log(2)


def _window(steps: Sequence[StepLoss]) -> int:
    return min(SHOWN_STEPS, max(1, len(steps) // 2))


def _examples(steps: Sequence[StepLoss]) -> int:
    return sum(one.examples for one in steps)


def _of_steps(steps: Sequence[StepLoss]) -> str:
    first, last = steps[0].step, steps[-1].step
    return f"step {last}" if first == last else f"mean of steps {first} to {last}"
