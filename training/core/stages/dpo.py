"""Stage dpo: train on preferences against the frozen reference, one run directory at a time."""

import time
from dataclasses import dataclass, replace

from training.core.distributed import ALONE, Ranks
from training.core.errors import RunStoppedError
from training.core.progress import progress, say
from training.core.run.checkpoints import Position
from training.core.run.config import RunConfig, config_warnings
from training.core.run.directory import RunDirectory
from training.core.run.files import append_lines, write_json_lines
from training.core.run.records import Evaluation, StepMetrics, read_evaluations
from training.core.stages.closing import finish
from training.core.stages.evaluation import best, evaluate, is_due, patience_is_over, record_evaluation
from training.core.stages.job import DpoRun, all_looks
from training.core.stages.loop import restore, save
from training.core.stages.preparation import prepare
from training.core.stages.references import check_step_zero
from training.core.stages.step import margin_record, start_record, train_step


@dataclass(frozen=True)
class Reached:
    """How far a run has come: its position, and the evaluations up to there."""

    position: Position
    evaluations: tuple[Evaluation, ...] = ()


def run_dpo(run: RunDirectory, *, config: RunConfig, ranks: Ranks = ALONE, last_look: bool = True) -> None:
    """Train the run, or go on where it was interrupted, and write adapter/ or model/, and result.json.

    Without `last_look` it ends when the weights are written, with trained.json instead of result.json.
    Raises TrainingError with a cause that a person can act on, RunStoppedError when asked to stop.
    """
    for warning in config_warnings(config):
        say(f"warning: {warning}")
    job = prepare(run, config=config, ranks=ranks)
    reached = _train(job, reached=_start_or_go_on(job))
    finish(job, position=reached.position, evaluations=reached.evaluations, last_look=last_look)


def _start_or_go_on(job: DpoRun) -> Reached:
    """Where the newest whole checkpoint was, restored, with its evaluations; or the start, checked."""
    position = restore(job)
    if position.step == 0:
        job.ranks.together(lambda: check_step_zero(job))
        _first_look(job)
    evaluations = job.ranks.on_main(lambda: tuple(read_evaluations(job.run.metrics)))
    return Reached(position=position, evaluations=evaluations)


def _first_look(job: DpoRun) -> None:
    """Begin margins.jsonl with every example before the first step.

    A policy that is still the reference has margin 0 everywhere, without looking.
    """
    names = [item.id for item in job.data.items]
    if job.fresh and job.data.references is not None:
        records = [start_record(name) for name in names]
    else:
        looks = all_looks(job, job.data, label="first look", where="before the first step")
        records = [
            margin_record(look, id=name, epoch=0, step=0) for look, name in zip(looks, names, strict=True)
        ]
    job.ranks.on_main(
        lambda: write_json_lines(job.run.margins, values=(record.as_json() for record in records))
    )


def _train(job: DpoRun, *, reached: Reached) -> Reached:
    """Take the steps that are left; a checkpoint every so often, at the end, and where a request stops it."""
    with progress("step", total=job.plan.steps, done=reached.position.step) as shown:
        try:
            # An evaluation that a stop interrupted is made up for before anything else.
            reached = _evaluated(job, reached=reached)
            while not _is_over(job, reached=reached):
                position, metrics = _next_step(job, position=reached.position)
                reached = replace(reached, position=position)
                reached = _evaluated(job, reached=reached)
                if _checkpoint_is_due(job, reached=reached):
                    save(job, position=reached.position)
                shown.advance(_figures(metrics))
        except RunStoppedError:
            if reached.position.step > 0:
                save(job, position=reached.position)
            raise
    return reached


def _is_over(job: DpoRun, *, reached: Reached) -> bool:
    patience = patience_is_over(reached.evaluations, settings=job.config.evaluation, best=best)
    return patience or reached.position.step == job.plan.steps


def _next_step(job: DpoRun, *, position: Position) -> tuple[Position, StepMetrics]:
    began = time.monotonic()
    metrics = train_step(job, step=position.step)
    if job.ranks.main:
        append_lines(job.run.metrics, values=[metrics.as_json()])
    seconds = position.seconds + time.monotonic() - began
    return replace(position, step=position.step + 1, seconds=seconds), metrics


def _evaluated(job: DpoRun, *, reached: Reached) -> Reached:
    """With the evaluation that is due after the steps taken, unless it was made already."""
    step, settings = reached.position.step, job.config.evaluation
    made = any(evaluation.step == step for evaluation in reached.evaluations)
    if job.heldout is None or made or not is_due(step, plan=job.plan, settings=settings):
        return reached
    evaluation = evaluate(job, step=step)
    evaluations = (*reached.evaluations, evaluation)
    record_evaluation(job, evaluation=evaluation, is_best=best(evaluations) == evaluation)
    return replace(reached, evaluations=evaluations)


def _checkpoint_is_due(job: DpoRun, *, reached: Reached) -> bool:
    step = reached.position.step
    return step % job.config.checkpoint_every == 0 or _is_over(job, reached=reached)


def _figures(metrics: StepMetrics) -> str:
    margin, accuracy = metrics.rewards_margins, metrics.rewards_accuracies
    parts = [
        f"loss {metrics.loss:.4f}",
        "" if margin is None else f"margin {margin:+.3f}",
        "" if accuracy is None else f"accuracy {accuracy:.2f}",
    ]
    return "  ".join(part for part in parts if part)
