"""One optimiser step of stage dpo: the batch's gradient pair by pair, the update, and the figures before
it.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.core.data.encode import EncodedPair
from training.core.errors import TrainingError
from training.core.logprobs.pairs import PairLogpsFunction, PairTokenLogps
from training.core.losses.pairwise import PairLogps, accuracies, margins, preference_loss, rewards
from training.core.model.loading import BaseModel, trainable_parameters
from training.core.process import raise_if_stopped
from training.core.run.config import RunConfig
from training.core.run.directory import MarginRecord, RunDirectory, StepMetrics
from training.core.run.files import append_lines
from training.core.stages.schedule import Plan, learning_rate_at


@dataclass(frozen=True)
class DpoRun:
    """All that a step needs; `references[i]` are the reference's per-token log-probs of `pairs[i]`."""

    run: RunDirectory
    config: RunConfig
    base: BaseModel
    policy: nn.Module
    optimizer: torch.optim.Optimizer
    pair_logps: PairLogpsFunction
    pairs: tuple[EncodedPair, ...]
    references: tuple[PairTokenLogps, ...]
    plan: Plan


@dataclass(frozen=True)
class PairOutcome:
    """One pair's figures in one step, before the update; `loss` is weighted."""

    loss: float
    logps: PairLogps
    margin: MarginRecord
    tokens: int


def train_step(job: DpoRun, *, step: int) -> StepMetrics:
    """One optimiser step (from 0) over its pairs; appends their margins and returns the batch's figures.

    Raises TrainingError when the loss or its gradient is not finite, RunStoppedError when asked to stop;
    weights and optimiser are then as before the step.
    """
    began = time.monotonic()
    rate = learning_rate_at(step, steps=job.plan.steps, settings=job.config.optimizer)
    for group in job.optimizer.param_groups:
        group["lr"] = rate
    outcomes = batch_backward(job, step=step)
    weights = trainable_parameters(job.policy).values()
    norm = float(nn.utils.clip_grad_norm_(weights, job.config.optimizer.max_grad_norm))
    _check_finite(norm, name="gradient", step=step, job=job)
    job.optimizer.step()
    job.optimizer.zero_grad(set_to_none=True)
    append_lines(job.run.margins, values=[outcome.margin.as_json() for outcome in outcomes])
    seconds = time.monotonic() - began
    return _metrics(job, step=step, outcomes=outcomes, norm=norm, rate=rate, seconds=seconds)


def batch_backward(job: DpoRun, *, step: int) -> list[PairOutcome]:
    """Leave the gradient of Σ w·loss / pairs over the step's batch on the weights, summed up pair by pair.

    One pair a row: no padding, and a pair's log-probs come from the same shape in every epoch and in the
    reference.
    """
    batch = [(job.pairs[index], job.references[index]) for index in job.plan.batch(step)]
    outcomes = []
    for pair, reference in batch:
        raise_if_stopped(where=f"after step {step} of {job.plan.steps}")
        live = job.pair_logps(job.policy, prompt=pair.prompt, chosen=pair.chosen, rejected=pair.rejected)
        logps = pair_sums(live, reference=reference, p=pair.p)
        loss = pair.weight * preference_loss(logps, settings=job.config.loss)[0]
        _check_finite(float(loss.detach()), name="loss", step=step, job=job)
        torch.autograd.backward(loss / len(batch))
        outcomes.append(
            _outcome(job, pair=pair, loss=loss, logps=logps, live=live, reference=reference, step=step)
        )
    return outcomes


def pair_sums(live: PairTokenLogps, *, reference: PairTokenLogps, p: float) -> PairLogps:
    """Summed log-probs of one pair, each of shape (1,), float32; the gradient flows through `live` alone."""
    device = live.chosen.device

    def value(number: float) -> Tensor:
        return torch.tensor([number], dtype=torch.float32, device=device)

    return PairLogps(
        policy_chosen=live.chosen.sum()[None],
        policy_rejected=live.rejected.sum()[None],
        reference_chosen=reference.chosen.sum()[None],
        reference_rejected=reference.rejected.sum()[None],
        chosen_tokens=value(len(live.chosen)),
        rejected_tokens=value(len(live.rejected)),
        p=value(p),
    )


def _outcome(
    job: DpoRun,
    *,
    pair: EncodedPair,
    loss: Tensor,
    logps: PairLogps,
    live: PairTokenLogps,
    reference: PairTokenLogps,
    step: int,
) -> PairOutcome:
    detached = PairLogps(**{name: value.detach() for name, value in vars(logps).items()})
    return PairOutcome(
        loss=float(loss.detach()),
        logps=detached,
        margin=MarginRecord(
            id=pair.id,
            epoch=job.plan.epoch(step) + 1,
            step=step + 1,
            margin_before=float(margins(detached, beta=job.config.loss.beta)),
            margin_after=None,
            h_chosen=_log_ratios(live.chosen, reference=reference.chosen),
            h_rejected=_log_ratios(live.rejected, reference=reference.rejected),
        ),
        tokens=len(pair.prompt) + len(pair.chosen) + len(pair.rejected),
    )


def _log_ratios(live: Tensor, *, reference: Tensor) -> tuple[float, ...]:
    return tuple(round(value, 5) for value in (live.detach() - reference).tolist())


def _metrics(
    job: DpoRun, *, step: int, outcomes: list[PairOutcome], norm: float, rate: float, seconds: float
) -> StepMetrics:
    beta = job.config.loss.beta
    logps = [outcome.logps for outcome in outcomes]
    return StepMetrics(
        step=step + 1,
        epoch=(step + 1) / job.plan.steps_per_epoch,
        loss=sum(outcome.loss for outcome in outcomes) / len(outcomes),
        rewards_chosen=_mean([rewards(pair.chosen_log_ratio, beta=beta) for pair in logps]),
        rewards_rejected=_mean([rewards(pair.rejected_log_ratio, beta=beta) for pair in logps]),
        rewards_accuracies=_mean([accuracies(pair) for pair in logps]),
        rewards_margins=_mean([margins(pair, beta=beta) for pair in logps]),
        logps_chosen=_mean([pair.policy_chosen for pair in logps]),
        logps_rejected=_mean([pair.policy_rejected for pair in logps]),
        grad_norm=norm,
        learning_rate=rate,
        tokens_per_second=sum(outcome.tokens for outcome in outcomes) / seconds,
        time=time.time(),
    )


def _mean(values: list[Tensor]) -> float:
    return float(torch.cat(values).mean())


def _check_finite(value: float, *, name: str, step: int, job: DpoRun) -> None:
    if not torch.isfinite(torch.tensor(value)):
        raise TrainingError(
            f"the {name} of step {step + 1} is {value}; lower learning_rate "
            f"({job.config.optimizer.learning_rate:g}) or look at that step's pairs, then start a new run"
        )
