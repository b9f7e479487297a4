"""One optimiser step of stage dpo: the batch's gradient, the update, and the figures before it."""

import time
from dataclasses import asdict

from training.core.diagnostics import Look, figures_of
from training.core.run.files import append_lines
from training.core.run.records import MarginRecord, StepMetrics
from training.core.stages.job import DpoRun, batch_looks
from training.core.stages.loop import check_finite, set_rate, update


def train_step(job: DpoRun, *, step: int) -> StepMetrics:
    """One optimiser step (from 0) over its examples; appends their margins and returns the batch's figures.

    Raises TrainingError when the loss or its gradient is not finite, RunStoppedError when asked to stop;
    weights and optimiser are then as before the step.
    """
    began = time.monotonic()
    rate = set_rate(job, step=step)
    looks = batch_backward(job, step=step)
    norm = update(job, step=step)
    if job.ranks.main:
        append_lines(job.run.margins, values=[_margin(job, look, step=step).as_json() for look in looks])
    return StepMetrics(
        **asdict(figures_of(looks)),
        step=step + 1,
        epoch=(step + 1) / job.plan.steps_per_epoch,
        examples=len(looks),
        grad_norm=norm,
        grad_clipped=float(norm > job.config.optimizer.max_grad_norm),
        learning_rate=rate,
        tokens_per_second=sum(look.tokens for look in looks) / (time.monotonic() - began),
        time=time.time(),
    )


def batch_backward(job: DpoRun, *, step: int) -> list[Look]:
    """Leave the gradient of Σ w·loss / pairs over the step's batch on the weights; returns the batch's looks.

    Passes of pairs_per_pass pairs, on any number of ranks, add up to the gradient of the batch at once.
    """
    where = f"after step {step} of {job.plan.steps}"
    looks = batch_looks(job, job.plan.batch(step), where=where)
    for look in looks:
        check_finite(look.loss, name="loss", step=step, job=job)
    return looks


def margin_record(look: Look, *, id: str, epoch: int, step: int, after: float | None = None) -> MarginRecord:
    """A look as a line of margins.jsonl."""
    sides = {"h_chosen": look.chosen, "h_rejected": look.rejected}
    return MarginRecord(
        id=id,
        epoch=epoch,
        step=step,
        margin_before=look.margin,
        margin_after=after,
        **{name: (side.log_ratios or ()) if side else () for name, side in sides.items()},
    )


def start_record(id: str) -> MarginRecord:
    """The first line of an example in margins.jsonl when the policy still is the reference."""
    return MarginRecord(
        id=id, epoch=0, step=0, margin_before=0.0, margin_after=None, h_chosen=(), h_rejected=()
    )


def _margin(job: DpoRun, look: Look, *, step: int) -> MarginRecord:
    name = job.data.items[look.index].id
    return margin_record(look, id=name, epoch=job.plan.epoch(step) + 1, step=step + 1)
