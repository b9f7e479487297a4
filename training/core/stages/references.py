"""The frozen reference's log-probs of a run's examples, from the ledger, and the check of the first step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from training.core.distributed import Ranks
from training.core.errors import TrainingError
from training.core.lanes import ONE, Lanes
from training.core.logprobs.ledger import Ledger, open_ledger
from training.core.logprobs.pairs import PairTokenLogps, PairTokens
from training.core.logprobs.reference import reference_completion_logps, reference_logps
from training.core.model.loading import BaseModel
from training.core.progress import Progress, progress, say
from training.core.run.config import RunConfig
from training.core.run.directory import RunDirectory, TokenIds
from training.core.stages.job import DpoRun

# How far the reference asked twice may be apart, in nats per token by dtype: the mean distance and the mean
# difference. The ledger's values come from other shapes than a training row's, and in bfloat16 a shape rounds
# in its own way (0.06 seen); rounding has no direction, while another model is off to one side.
DISTANCE_NOISE = {"float32": 1e-4, "bfloat16": 0.15}
DIFFERENCE_NOISE = {"float32": 1e-4, "bfloat16": 0.05}
# How far a fresh adapter may be from the reference in the same shape, where nothing rounds differently.
FRESH_NOISE = {"float32": 1e-4, "bfloat16": 0.01}
Item = TypeVar("Item")
Logps = TypeVar("Logps")
Compute = Callable[[Sequence[Item], Ledger, Progress], tuple[Logps, ...]]


@dataclass(frozen=True)
class Reference:
    """Where the reference's log-probs of a run come from: its ledger, filled by all ranks together."""

    policy: nn.Module
    ledger: Path
    sha256: str
    dtype: str
    ranks: Ranks
    lanes: Lanes = ONE

    def of_pairs(self, pairs: Sequence[PairTokens]) -> tuple[PairTokenLogps, ...]:
        """Per-token log-probs of every pair, float32, on the CPU."""
        return self._of(
            pairs,
            compute=lambda items, ledger, shown: reference_logps(
                self.policy, pairs=items, ledger=ledger, shown=shown, lanes=self.lanes
            ),
        )

    def of_completions(self, completions: Sequence[tuple[TokenIds, TokenIds]]) -> tuple[Tensor, ...]:
        """Per-token log-probs of every (prompt, completion), float32, on the CPU."""
        return self._of(
            completions,
            compute=lambda items, ledger, shown: reference_completion_logps(
                self.policy, completions=items, ledger=ledger, shown=shown, lanes=self.lanes
            ),
        )

    def _of(self, items: Sequence[Item], *, compute: Compute[Item, Logps]) -> tuple[Logps, ...]:
        """What `compute` gives for all items; several ranks fill the ledger together, then each reads it."""
        if self.ranks.size > 1:
            self.ranks.together(lambda: len(self._computed(self.ranks.share(items), compute=compute)))
        return self._computed(items, compute=compute)

    def _computed(self, items: Sequence[Item], *, compute: Compute[Item, Logps]) -> tuple[Logps, ...]:
        self.ledger.parent.mkdir(parents=True, exist_ok=True)
        with (
            open_ledger(self.ledger, reference=self.sha256, dtype=self.dtype) as ledger,
            progress("reference", total=len(items)) as shown,
        ):
            return compute(items, ledger, shown)


def reference_of(
    run: RunDirectory,
    *,
    config: RunConfig,
    base: BaseModel,
    policy: nn.Module,
    ranks: Ranks,
    lanes: Lanes = ONE,
) -> Reference:
    """The run's reference; its ledger is the configured file, or ledger.sqlite in the run directory."""
    return Reference(
        policy=policy,
        ledger=run.path / (config.ledger or "ledger.sqlite"),
        sha256=base.sha256,
        dtype=config.dtype,
        ranks=ranks,
        lanes=lanes,
    )


def check_step_zero(job: DpoRun) -> None:
    """Before the first step: a fresh adapter changes nothing, a continued one leaves the reference as it was.

    Raises TrainingError when the reference is not what the losses take it for.
    """
    data = job.data
    if data.references is None:
        return
    live, again, reference = data.first_example()
    dtype = job.config.dtype
    drift, difference = _distance(again, reference), abs(_difference(again, reference))
    if drift > DISTANCE_NOISE[dtype] or difference > DIFFERENCE_NOISE[dtype]:
        raise TrainingError(
            f"the reference gives log-probs {drift:.3g} nats a token apart ({difference:.3g} to one side) "
            "when asked twice; the base model is not deterministic and cannot be a reference"
        )
    change = _distance(live, again)
    if job.fresh and change > FRESH_NOISE[dtype]:
        raise TrainingError(
            f"a fresh adapter changes the log-probs by {change:.3g} nats a token instead of nothing; "
            "check that the base model is the reference itself, without an adapter of its own"
        )
    if not job.fresh and change == 0:
        say("warning: the parent adapter changes nothing; check that it was trained on this base model")


def _distance(first: Tensor, second: Tensor) -> float:
    """The mean absolute difference of two sets of per-token log-probs, in nats."""
    return _gaps(first, second).abs().mean().item()


def _difference(first: Tensor, second: Tensor) -> float:
    """The mean difference of two sets of per-token log-probs, in nats."""
    return _gaps(first, second).mean().item()


def _gaps(first: Tensor, second: Tensor) -> Tensor:
    return first - second.to(first.device)
