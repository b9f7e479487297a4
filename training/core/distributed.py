"""Several processes that train one run, started by torchrun: they share every batch and stay in step.

Each process (rank) holds the whole model, computes its share of a batch and adds its gradients to those of
the others, so that all take the same step as one process would. Rank 0 alone writes files and speaks.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as group

from training.core.errors import RunStoppedError, TrainingError
from training.core.progress import be_silent

# A peer that ended is noticed at once, by its closed connection; one that fills its share of the ledger is
# not late for hours.
PATIENCE = timedelta(hours=24)
BUCKET_NUMBERS = 16 * 1024 * 1024
# What `accelerate launch` sets for ways of sharing the weights themselves.
SHARED_WEIGHTS = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}
Result = TypeVar("Result")
Item = TypeVar("Item")


@dataclass(frozen=True)
class _Outcome(Generic[Result]):
    """What one rank's part of a piece of work came to: a result, or why there is none."""

    result: Result | None
    cause: str | None = None
    stopped: bool = False


@dataclass(frozen=True)
class Ranks:
    """This process's place among those that train the run; the default is to be alone."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This rank's part of some items; the parts differ by one at most, and may be empty."""
        return items[self.rank :: self.size]

    def together(self, work: Callable[[], Result]) -> list[Result]:
        """Do `work` on every rank and return all results, in the order of ranks.

        Where it raises on any rank, every rank raises: the one at fault its own error, the others one with
        the same sentence. A request to stop that reached any rank stops all.
        """
        if self.size == 1:
            return [work()]
        own: Exception | None = None
        try:
            outcome = _Outcome(result=work())
        except Exception as error:  # noqa: BLE001 - whatever it is, the other ranks must hear of it
            own, outcome = error, _failure(error)
        outcomes = self._gather(outcome)
        if own is not None:
            raise own
        for place, other in enumerate(outcomes):
            if other.cause is not None:
                raise _same_error(other, rank=place)
        return [other.result for other in outcomes]

    def on_main(self, work: Callable[[], Result]) -> Result:
        """Do `work` on rank 0 alone and return its result on every rank."""
        return self.together(lambda: work() if self.main else None)[0]  # type: ignore[return-value]

    def in_order(self, items: Sequence[Sequence[Item]]) -> list[Item]:
        """Put back together what `share` took apart: the results of each rank's part, in the old order."""
        total = sum(len(part) for part in items)
        return [items[place % self.size][place // self.size] for place in range(total)]

    def add_gradients(self, weights: Sequence[nn.Parameter]) -> None:
        """Replace the gradient of each weight by the sum over ranks; a rank without one counts as zero."""
        if self.size == 1:
            return
        for bucket in _buckets(weights):
            flat = torch.cat([_gradient(weight) for weight in bucket])
            _with_peers(lambda flat=flat: group.all_reduce(flat))  # type: ignore[misc]
            for weight, summed in zip(
                bucket, torch.split(flat, [weight.numel() for weight in bucket]), strict=True
            ):
                weight.grad = summed.view_as(weight).to(weight.device)

    def _gather(self, value: Any) -> list[Any]:
        everyone: list[Any] = [None] * self.size
        _with_peers(lambda: group.all_gather_object(everyone, value))
        return everyone


ALONE = Ranks()


def join_ranks() -> Ranks:
    """This process's place as torchrun's environment states it; without torchrun it is alone.

    Raises TrainingError for launchers that share the weights between processes, which this trainer does not.
    """
    for variable, name in SHARED_WEIGHTS.items():
        if os.environ.get(variable, "").lower() in {"1", "true"}:
            raise TrainingError(
                f"{name} (weights shared between processes) is not available; start with "
                "torchrun --nproc-per-node N, where each process holds the whole model"
            )
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        return ALONE
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    group.init_process_group("gloo", timeout=PATIENCE)
    ranks = Ranks(rank=group.get_rank(), size=size)
    if not ranks.main:
        be_silent()
    return ranks


def leave_ranks() -> None:
    """End the connections to the other processes, if there are any."""
    if group.is_available() and group.is_initialized():
        group.destroy_process_group()


def _failure(error: Exception) -> _Outcome[Any]:
    text = " ".join(str(error).split())
    foreseen = isinstance(error, TrainingError)
    return _Outcome(
        result=None,
        cause=text if foreseen else f"{type(error).__name__}: {text or 'no further message'}",
        stopped=isinstance(error, RunStoppedError),
    )


def _same_error(outcome: _Outcome[Any], *, rank: int) -> TrainingError:
    if outcome.stopped:
        return RunStoppedError(str(outcome.cause))
    return TrainingError(f"{outcome.cause} (process {rank})")


def _with_peers(exchange: Callable[[], object]) -> None:
    try:
        exchange()
    except RuntimeError as error:
        raise TrainingError(
            "another process of this run ended; its last words say why, and the same command goes on "
            "from the "
            "last checkpoint"
        ) from error


def _gradient(weight: nn.Parameter) -> Tensor:
    gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
    return gradient.detach().float().flatten().cpu()


def _buckets(weights: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Weights in groups of about BUCKET_NUMBERS numbers, each group exchanged as one message."""
    buckets: list[list[nn.Parameter]] = []
    filled = BUCKET_NUMBERS
    for weight in weights:
        if filled >= BUCKET_NUMBERS:
            buckets.append([])
            filled = 0
        buckets[-1].append(weight)
        filled += weight.numel()
    return buckets
