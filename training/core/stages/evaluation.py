"""Looking at the held-out examples: their figures, the best evaluation so far, and when to stop early."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TypeVar

from training.core.diagnostics import figures_of
from training.core.progress import say
from training.core.run.config import EvaluationSettings
from training.core.run.files import append_lines
from training.core.run.records import Evaluation
from training.core.stages.job import DpoRun, all_looks
from training.core.stages.schedule import Plan

Made = TypeVar("Made")


def is_due(step: int, *, plan: Plan, settings: EvaluationSettings) -> bool:
    """Whether the policy after `step` steps is evaluated: every so often, or after each epoch, and at the
    end.
    """
    every = settings.every or plan.steps_per_epoch
    return step > 0 and (step % every == 0 or step == plan.steps)


def evaluate(job: DpoRun, *, step: int) -> Evaluation:
    """Evaluate the policy after `step` steps on every held-out example and append the figures to
    metrics.jsonl.
    """
    if job.heldout is None:
        raise ValueError("nothing is held out")
    looks = all_looks(job, job.heldout, label="held out", where=f"after step {step} of {job.plan.steps}")
    evaluation = Evaluation(
        **asdict(figures_of(looks)),
        step=step,
        epoch=step / job.plan.steps_per_epoch,
        examples=len(looks),
        time=time.time(),
    )
    if job.ranks.main:
        append_lines(job.run.metrics, values=[evaluation.as_json()])
    say(f"held out: {_figures(evaluation)}")
    return evaluation


def best(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The first evaluation with the highest preference accuracy."""
    return max(evaluations, key=lambda evaluation: evaluation.rewards_accuracies or 0.0)


def patience_is_over(
    evaluations: Sequence[Made], *, settings: EvaluationSettings, best: Callable[[Sequence[Made]], Made]
) -> bool:
    """Whether the last `patience` evaluations brought none that is better than the `best` before them."""
    if settings.patience is None or not evaluations:
        return False
    since = len(evaluations) - 1 - list(evaluations).index(best(evaluations))
    return since >= settings.patience


def _figures(evaluation: Evaluation) -> str:
    accuracy = evaluation.rewards_accuracies
    shown = "" if accuracy is None else f"accuracy {accuracy:.3f}, "
    return f"{shown}loss {evaluation.loss:.4f} on {evaluation.examples} examples"
