"""What each optimiser step trains on, and at which learning rate: pure functions of the step's number."""

import math
import random
from dataclasses import dataclass
from functools import lru_cache

from training.core.run.config import OptimizerSettings


@dataclass(frozen=True)
class Plan:
    """The steps of a run: every epoch sees each pair once, shuffled; its last step may be smaller."""

    pairs: int
    pairs_per_step: int
    epochs: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.pairs / self.pairs_per_step)

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def epoch(self, step: int) -> int:
        """The epoch, from 0, of a step, from 0."""
        return step // self.steps_per_epoch

    def batch(self, step: int) -> tuple[int, ...]:
        """The indices of the pairs of a step, from 0."""
        order = _epoch_order(self.pairs, self.seed, self.epoch(step))
        start = (step % self.steps_per_epoch) * self.pairs_per_step
        return order[start : start + self.pairs_per_step]


def learning_rate_at(step: int, *, steps: int, settings: OptimizerSettings) -> float:
    """The learning rate of a step (from 0): linear warm-up to the peak, then down along the schedule."""
    warmup = math.ceil(settings.warmup_ratio * steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    match settings.schedule:
        case "linear":
            return settings.learning_rate * (1 - done)
        case "cosine":
            return settings.learning_rate * (1 + math.cos(math.pi * done)) / 2
    return settings.learning_rate


@lru_cache(maxsize=2)
def _epoch_order(pairs: int, seed: int, epoch: int) -> tuple[int, ...]:
    order = list(range(pairs))
    random.Random(f"{seed}:{epoch}").shuffle(order)
    return tuple(order)
