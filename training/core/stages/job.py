"""A preference run in memory: what its steps, evaluations and end share."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from training.core.diagnostics import Look
from training.core.distributed import ALONE, Ranks
from training.core.losses.kto import reference_point
from training.core.model.loading import BaseModel
from training.core.progress import progress
from training.core.run.config import RunConfig
from training.core.run.directory import Receipt, RunDirectory
from training.core.run.weights import TrainedWeights
from training.core.stages.preferences import PreferenceData
from training.core.stages.schedule import Plan
from training.core.stages.unpaired import UnpairedData

Data = PreferenceData | UnpairedData
LOOKS_AT_ONCE = 64


@dataclass(frozen=True)
class DpoRun:
    """All that a run needs from its first step on; `heldout` is None where nothing is held out.

    `truncated_share` of the training completions do not end with an end token.
    """

    run: RunDirectory
    config: RunConfig
    base: BaseModel
    policy: nn.Module
    weights: TrainedWeights
    optimizer: torch.optim.Optimizer
    data: Data
    heldout: Data | None
    plan: Plan
    receipt: Receipt
    ranks: Ranks = ALONE
    truncated_share: float = 0.0

    @property
    def fresh(self) -> bool:
        """Whether the policy is the reference itself before the first step."""
        return self.config.parent_adapter is None


def batch_looks(job: DpoRun, indices: Sequence[int], *, where: str) -> list[Look]:
    """The looks at a batch, in its order, with the gradient of its mean weighted loss on the weights.

    Raises RunStoppedError on all ranks when any was asked to stop, saying `where`.
    """
    own = job.ranks.share(indices)
    point = _reference_point(job, job.data, indices, where=where)
    looks = job.ranks.together(
        lambda: job.data.looks(own, where=where, point=point, weights=job.weights, total=len(indices))
    )
    job.ranks.add_gradients(job.weights.parameters)
    return job.ranks.in_order(looks)


def all_looks(job: DpoRun, data: Data, *, label: str, where: str) -> list[Look]:
    """The looks at every example, in order, without a gradient, each rank computing its share."""
    everything = range(len(data.items))
    point = _reference_point(job, data, everything, where=where)
    found: list[Look] = []
    with progress(label, total=len(everything)) as shown:
        for start in range(0, len(everything), LOOKS_AT_ONCE):
            part = everything[start : start + LOOKS_AT_ONCE]
            own = job.ranks.share(part)
            looks = job.ranks.together(partial(data.looks, own, where=where, point=point))
            found += job.ranks.in_order(looks)
            shown.advance(by=len(part))
    return found


def _reference_point(job: DpoRun, data: Data, indices: Sequence[int], *, where: str) -> float:
    """KTO's z = max(0, mean of h over mismatched completions), in nats; 0 for pairs, which have none."""
    own = job.ranks.share(indices)
    parts = job.ranks.together(lambda: data.mismatched_log_ratios(own, where=where))
    log_ratios = job.ranks.in_order(parts)
    return float(reference_point(torch.tensor(log_ratios)))
