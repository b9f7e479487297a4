"""Passes side by side: on a CPU several threads compute a pass each, on their share of the cores.

A pass of a small model is thousands of short operations, and dividing each of them between cores gains
nothing; passes beside each other do (docs/decisions/trainer-speed.md).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import torch
from torch import nn

# More passes at once hold more activations, and a step has few of them.
MOST = 4
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Lanes:
    """How many passes are computed at once; what a pass gives does not depend on it."""

    count: int = 1

    def each(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return `work` of every item, in order; gradients are recorded where they are for the caller.

        Where it raises, the error of the first such item is raised when all have ended.
        """
        if self.count == 1 or len(items) < 2:
            return [work(item) for item in items]
        recorded = torch.is_grad_enabled()

        def worked(item: Item) -> Result:
            with torch.set_grad_enabled(recorded):
                return work(item)

        pending = [_threads(self.count).submit(worked, item) for item in items]
        wait(pending)
        return [one.result() for one in pending]

    def shares(self, sizes: Sequence[int]) -> list[list[int]]:
        """Divide the places of some items of these sizes into a share a lane, about as large as each other.

        The largest go first, each to the share that has least; a share's places are in order, and none is
        empty.
        """
        shares: list[list[int]] = [[] for _ in range(self.count)]
        filled = [0] * self.count
        for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
            least = filled.index(min(filled))
            shares[least].append(place)
            filled[least] += sizes[place]
        return [sorted(share) for share in shares if share]


ONE = Lanes()


def open_lanes(model: nn.Module) -> Lanes:
    """Return the lanes of this process for a model: on a CPU its threads are divided between them."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    return _divided() if on_cpu else ONE


@cache
def _divided() -> Lanes:
    threads = torch.get_num_threads()
    lanes = Lanes(min(MOST, threads))
    torch.set_num_threads(threads // lanes.count)
    return lanes


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="lane")
