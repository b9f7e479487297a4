"""What every stage that trains does alike: rates, updates, checkpoints, going on, stopping."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
from torch import nn

from training.core.distributed import Ranks
from training.core.errors import RunStoppedError, TrainingError
from training.core.progress import progress, say
from training.core.run import checkpoints
from training.core.run.checkpoints import Position
from training.core.run.config import RunConfig
from training.core.run.directory import RunDirectory
from training.core.run.files import keep_lines
from training.core.run.weights import TrainedWeights
from training.core.stages.schedule import Plan, learning_rate_at


class TrainingJob(Protocol):
    """What the loop needs of a run in memory."""

    @property
    def run(self) -> RunDirectory: ...

    @property
    def config(self) -> RunConfig: ...

    @property
    def weights(self) -> TrainedWeights: ...

    @property
    def optimizer(self) -> torch.optim.Optimizer: ...

    @property
    def plan(self) -> Plan: ...

    @property
    def ranks(self) -> Ranks: ...


def set_rate(job: TrainingJob, *, step: int) -> float:
    """Give the optimiser the learning rate of a step (from 0) and return it."""
    rate = learning_rate_at(step, steps=job.plan.steps, settings=job.config.optimizer)
    for group in job.optimizer.param_groups:
        group["lr"] = rate
    return rate


def update(job: TrainingJob, *, step: int) -> float:
    """Clip the gradient, take the optimiser's step, and return the gradient's norm before clipping.

    Raises TrainingError when it is not finite; weights and optimiser are then as before the step.
    """
    norm = float(nn.utils.clip_grad_norm_(job.weights.parameters, job.config.optimizer.max_grad_norm))
    check_finite(norm, name="gradient", step=step, job=job)
    job.optimizer.step()
    job.weights.forget_gradients()
    job.weights.publish()
    return norm


def check_finite(value: float, *, name: str, step: int, job: TrainingJob) -> None:
    """Raise TrainingError when a loss or gradient of a step (from 0) is infinite or no number."""
    if not math.isfinite(value):
        raise TrainingError(
            f"the {name} of step {step + 1} is {value}; lower learning_rate "
            f"({job.config.optimizer.learning_rate:g}) or look at that step's examples, then start a new run"
        )


def restore(job: TrainingJob) -> Position:
    """Where the newest whole checkpoint was, restored, or the start; records of later steps are cut."""
    start = checkpoints.start_of(job.run)
    (position, *_) = job.ranks.together(
        lambda: checkpoints.load_checkpoint(
            job.run, start=start, weights=job.weights, optimizer=job.optimizer
        )
    )
    job.ranks.on_main(lambda: _cut(job.run, step=position.step))
    if position.step:
        say(f"going on after step {position.step} of {job.plan.steps}")
    return position


def save(job: TrainingJob, *, position: Position) -> None:
    """Write a checkpoint of the position, by the main process."""
    job.ranks.on_main(
        lambda: checkpoints.save_checkpoint(
            job.run, position=position, weights=job.weights, optimizer=job.optimizer
        )
    )


def take_steps(
    job: TrainingJob, *, position: Position, take: Callable[[int], str], is_over: Callable[[int], bool]
) -> Position:
    """`take` the steps that are left (each from 0; it returns figures to show), with checkpoints.

    After each, and before the first, `is_over` is asked with the steps taken. A checkpoint is written every
    so often, at the end, and where a request stops the run.
    """
    with progress("step", total=job.plan.steps, done=position.step) as shown:
        try:
            over = is_over(position.step)
            while not over:
                began = time.monotonic()
                figures = take(position.step)
                seconds = position.seconds + time.monotonic() - began
                position = replace(position, step=position.step + 1, seconds=seconds)
                over = is_over(position.step)
                if position.step % job.config.checkpoint_every == 0 or over:
                    save(job, position=position)
                shown.advance(figures)
        except RunStoppedError:
            if position.step > 0:
                save(job, position=position)
            raise
    return position


def _cut(run: RunDirectory, *, step: int) -> None:
    checkpoints.forget_later_bests(run, step=step)
    for record in (run.metrics, run.margins):
        keep_lines(record, wanted=lambda values: values["step"] <= step)
