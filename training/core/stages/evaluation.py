"""Looking at the held-out examples: their figures, the best evaluation so far, and when to stop early."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TypeVar

from training.core.diagnostics import figures_of
from training.core.progress import say
from training.core.run import checkpoints
from training.core.run.config import EvaluationSettings
from training.core.run.files import append_lines
from training.core.run.records import DemonstrationEvaluation, Evaluation
from training.core.stages.job import DpoRun, all_looks
from training.core.stages.loop import TrainingJob, check_finite
from training.core.stages.schedule import Plan

Made = TypeVar("Made")


def is_due(step: int, *, plan: Plan, settings: EvaluationSettings) -> bool:
    """Whether the policy after `step` steps is evaluated: every so often, or after each epoch, and at the
    end.
    """
    every = settings.every or plan.steps_per_epoch
    return step > 0 and (step % every == 0 or step == plan.steps)


def evaluate(job: DpoRun, *, step: int) -> Evaluation:
    """Evaluate the policy after `step` steps on every held-out example.

    Raises TrainingError when a figure is infinite or no number.
    """
    if job.heldout is None:
        raise ValueError("nothing is held out")
    looks = all_looks(job, job.heldout, label="held out", where=f"after step {step} of {job.plan.steps}")
    for look in looks:
        check_finite(look.loss, name="held-out loss", step=step - 1, job=job)
    figures = asdict(figures_of(looks))
    for name, value in figures.items():
        if value is not None:
            check_finite(value, name=f"held-out {name}", step=step - 1, job=job)
    evaluation = Evaluation(
        **figures,
        step=step,
        epoch=step / job.plan.steps_per_epoch,
        examples=len(looks),
        time=time.time(),
    )
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


def record_evaluation(
    job: TrainingJob, *, evaluation: Evaluation | DemonstrationEvaluation, is_best: bool
) -> None:
    """Append an evaluation to metrics.jsonl, by the main process, and with `keep_best` keep the best weights.

    The weights come first: a line in the file stands for weights that are on disk.
    """

    def write() -> None:
        if is_best and job.config.evaluation.keep_best:
            checkpoints.save_best(job.run, step=evaluation.step, weights=job.weights)
        append_lines(job.run.metrics, values=[evaluation.as_json()])

    job.ranks.on_main(write)


def restore_best(job: TrainingJob, *, wanted: int, reached: int) -> tuple[int, tuple[str, ...]]:
    """Restore the best evaluation's weights, those after `wanted` steps, in a run that `reached` a step.

    Returns the step whose weights the model has then, and a warning where the best ones are lost.
    """
    if wanted == reached:
        return reached, ()
    if all(job.ranks.together(lambda: checkpoints.load_best(job.run, step=wanted, weights=job.weights))):
        return wanted, ()
    lost = f"the weights of the best evaluation (step {wanted}) are gone or damaged"
    return reached, (f"{lost}; these are of the last step ({reached})",)


def _figures(evaluation: Evaluation) -> str:
    accuracy = evaluation.rewards_accuracies
    shown = "" if accuracy is None else f"accuracy {accuracy:.3f}, "
    return f"{shown}loss {evaluation.loss:.4f} on {evaluation.examples} examples"
