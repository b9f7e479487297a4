"""The loss that is shown of a run: means over some steps at both ends, as its result has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RunLosses:
    """The loss at the beginning and at the end of a run; `steps` are averaged at each, over their examples.

    Results of earlier versions have a single step of each.
    """

    first: float | None
    last: float | None
    steps: int

    @property
    def of_steps(self) -> str:
        return "step" if self.steps == 1 else f"{self.steps} steps"


def run_losses(result: Mapping[str, Any] | None) -> RunLosses:
    """Return the losses of a result.json, of this version or an earlier one."""
    found = result or {}
    if found.get("loss_end") is None:
        return RunLosses(first=found.get("loss_first"), last=found.get("loss_last"), steps=1)
    return RunLosses(
        first=found.get("loss_start"), last=found["loss_end"], steps=int(found.get("loss_steps") or 1)
    )
