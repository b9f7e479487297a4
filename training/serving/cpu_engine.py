"""What vLLM's CPU engine lacks: a LoRA of one product per adapter, and processes that wait asleep.

vLLM 0.32's own CPU version copies the adapter's weights once per token (three times slower for SmolLM2-135M),
and reads "no adapter" (index -1) as the last slot: in a batch of both kinds, requests to the base get an
adapter's output. `docs/decisions/vllm-on-cpu.md` has the measurements.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from vllm.distributed.device_communicators import shm_broadcast
from vllm.distributed.device_communicators.shm_broadcast import SpinCondition
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

NO_ADAPTER = -1
# How often a waiting process looks whether it has missed a notice: while it is at work, and when it is idle.
LOOK_AGAIN_MS, LOOK_AGAIN_IDLE_MS = 2, 100
BUSY_SECONDS = 1.0


def group_rows(slots: torch.Tensor) -> list[tuple[int, torch.Tensor | slice]]:
    """Return (slot, rows) for each adapter in `slots` (rows,); rows is a slice where one has them all."""
    present = sorted(set(slots.tolist()))
    if len(present) == 1:
        return [(slot, slice(0, len(slots))) for slot in present if slot != NO_ADAPTER]
    return [(slot, (slots == slot).nonzero().squeeze(1)) for slot in present if slot != NO_ADAPTER]


class GroupedPunicaWrapper(PunicaWrapperCPU):  # type: ignore[misc]
    """vLLM's wrapper with the linear layers' LoRA computed per adapter instead of per token."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._groups: list[tuple[int, torch.Tensor | slice]] = []

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        super().update_metadata(*args, **kwargs)
        self._groups = group_rows(self.token_lora_indices)

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        **kwargs: Any,
    ) -> None:
        """Add scale · x Aᵀ Bᵀ of each row's adapter to y, in place.

        y (rows, Σ output_slices), x (rows, in); A (slots, 1, r, in) and B (slots, 1, out, r) for each slice.
        """
        outputs = torch.split(y.view(-1, y.shape[-1]), list(output_slices), dim=-1)
        inputs = x.view(-1, x.shape[-1])
        for slot, rows in self._groups:
            selected = inputs[rows]
            for output, lora_a, lora_b in zip(outputs, lora_a_stacked, lora_b_stacked, strict=True):
                shrunk = torch.nn.functional.linear(selected, lora_a[slot, 0]) * scale
                output[rows] += torch.nn.functional.linear(shrunk, lora_b[slot, 0])


def use_grouped_lora() -> None:
    """Make vLLM's CPU platform use GroupedPunicaWrapper in this process."""
    from vllm.platforms.cpu import CpuPlatform

    name = f"{GroupedPunicaWrapper.__module__}.{GroupedPunicaWrapper.__qualname__}"
    CpuPlatform.get_punica_wrapper = classmethod(lambda _: name)


class SleepingCondition(SpinCondition):  # type: ignore[misc]
    """A wait for the other process that neither spins nor relies on being told of every message.

    vLLM drops a notice that closely follows another one. Who spins does not need it; who sleeps would look
    again only five seconds later, several times in a single answer.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.busy_loop_s = 0

    def wait(self, timeout_ms: int | None = None) -> None:
        """Return once told of a message, and soon in any case: the caller looks whether there is one."""
        is_busy = time.monotonic() < self.last_read + BUSY_SECONDS
        longest = LOOK_AGAIN_MS if is_busy else LOOK_AGAIN_IDLE_MS
        super().wait(longest if timeout_ms is None else min(timeout_ms, longest))


def wait_without_spinning() -> None:
    """Make engine and worker sleep until the other answers; by default each keeps a core busy looking."""
    shm_broadcast.SpinCondition = SleepingCondition
