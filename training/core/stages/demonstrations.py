"""A run of stage sft in memory, and how it looks at demonstrations: with a gradient, or held out, without."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from training.core.data.encode import EncodedCompletion
from training.core.distributed import Ranks
from training.core.lanes import ONE, Lanes
from training.core.logprobs.pairs import TOKENS_PER_PASS, completions_token_logps, passes
from training.core.model.loading import BaseModel
from training.core.process import raise_if_stopped
from training.core.progress import progress
from training.core.run.config import RunConfig
from training.core.run.directory import Receipt, RunDirectory
from training.core.run.weights import Gradients, TrainedWeights
from training.core.stages.preferences import looks_of_shares
from training.core.stages.schedule import Plan

LOOKS_AT_ONCE = 64


@dataclass(frozen=True)
class SftRun:
    """All that steps and evaluations need; `heldout` is empty where nothing is held out."""

    run: RunDirectory
    config: RunConfig
    base: BaseModel
    policy: nn.Module
    weights: TrainedWeights
    optimizer: torch.optim.Optimizer
    items: tuple[EncodedCompletion, ...]
    heldout: tuple[EncodedCompletion, ...]
    plan: Plan
    receipt: Receipt
    ranks: Ranks
    lanes: Lanes = ONE


@dataclass(frozen=True)
class Learnt:
    """A look at a demonstration: its summed NLL in nats, and how many tokens it has.

    `hits` of its completion's tokens were the likeliest ones.
    """

    nll: float
    hits: int
    completion_tokens: int
    tokens: int


def batch_backward(job: SftRun, *, indices: Sequence[int], step: int) -> list[Learnt]:
    """Leave the gradient of the batch's loss on the weights of every rank; returns each demonstration's
    figures.

    Passes of any size on any number of ranks add up to the same gradient: all are divided by the batch's
    tokens.
    """
    total = sum(len(job.items[index].completion) for index in indices)
    own = job.ranks.share(indices)
    where = f"after step {step} of {job.plan.steps}"
    learnt = job.ranks.together(lambda: _passes(job, indices=own, total=total, where=where))
    job.ranks.add_gradients(job.weights.parameters)
    return job.ranks.in_order(learnt)


def _passes(job: SftRun, *, indices: Sequence[int], total: int, where: str) -> list[Learnt]:
    """Add the gradient of some demonstrations' −Σ log π / total to the weights."""
    items = [job.items[index] for index in indices]

    def of_share(places: Sequence[int]) -> tuple[list[Learnt], Gradients]:
        gradients = Gradients(job.weights)
        found: list[Learnt] = []
        for group in _groups(job, items=[items[place] for place in places], where=where):
            logps, learnt = _look(job, group=group)
            gradients.add_of(-torch.cat(logps).sum() / total)
            found += learnt
        return found, gradients

    shares = job.lanes.shares([_tokens(item) for item in items])
    return looks_of_shares(job.lanes.each(of_share, shares), shares=shares, weights=job.weights)


def heldout_looks(job: SftRun, *, where: str) -> list[Learnt]:
    """Look at every held-out demonstration, in order, without a gradient, each rank computing its share."""
    everything = range(len(job.heldout))
    found: list[Learnt] = []
    with progress("held out", total=len(everything)) as shown:
        for start in range(0, len(everything), LOOKS_AT_ONCE):
            part = everything[start : start + LOOKS_AT_ONCE]
            own = job.ranks.share(part)
            found += job.ranks.in_order(job.ranks.together(partial(_looks, job, indices=own, where=where)))
            shown.advance(by=len(part))
    return found


def _looks(job: SftRun, *, indices: Sequence[int], where: str) -> list[Learnt]:
    items = [job.heldout[index] for index in indices]

    def of_share(places: Sequence[int]) -> tuple[list[Learnt], None]:
        groups = _groups(job, items=[items[place] for place in places], where=where)
        return [one for group in groups for one in _look(job, group=group)[1]], None

    shares = job.lanes.shares([_tokens(item) for item in items])
    with torch.no_grad():
        return looks_of_shares(job.lanes.each(of_share, shares), shares=shares, weights=None)


def _groups(
    job: SftRun, *, items: Sequence[EncodedCompletion], where: str
) -> Iterator[Sequence[EncodedCompletion]]:
    """One lane's demonstrations, pass by pass; a request to stop is answered before each."""
    settings = job.config.optimizer
    tokens = [_tokens(item) for item in items]
    most = TOKENS_PER_PASS / job.lanes.count
    for part in passes(tokens, pairs_per_pass=settings.pairs_per_pass, most=most):
        raise_if_stopped(where=where)
        yield items[part]


def _tokens(item: EncodedCompletion) -> int:
    return len(item.prompt) + len(item.completion)


def _look(job: SftRun, *, group: Sequence[EncodedCompletion]) -> tuple[tuple[Tensor, ...], list[Learnt]]:
    """The token log-probs of some demonstrations, each of shape (completion tokens,), and their figures."""
    lengths = [len(item.completion) for item in group]
    hits = torch.zeros(sum(lengths), dtype=torch.bool, device=next(job.policy.parameters()).device)
    logps = completions_token_logps(
        job.policy,
        completions=[(item.prompt, item.completion) for item in group],
        chunk_tokens=job.config.chunk_tokens,
        hits=hits,
    )
    return logps, [
        Learnt(
            nll=-float(one.detach().sum()),
            hits=int(hit.sum()),
            completion_tokens=len(item.completion),
            tokens=len(item.prompt) + len(item.completion),
        )
        for item, one, hit in zip(group, logps, torch.split(hits, lengths), strict=True)
    ]
