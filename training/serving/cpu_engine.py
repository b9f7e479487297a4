"""LoRA for vLLM's CPU engine: one product per adapter of a batch, none for requests without an adapter.

vLLM 0.32's own CPU version copies the adapter's weights once per token (three times slower for SmolLM2-135M),
and reads "no adapter" (index -1) as the last slot: in a batch of both kinds, requests to the base get an
adapter's output. `docs/decisions/vllm-on-cpu.md` has the measurements.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

NO_ADAPTER = -1


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


def wait_without_spinning() -> None:
    """Make the engine sleep until its worker answers; by default it keeps a whole core busy looking."""
    from vllm.distributed.device_communicators.shm_broadcast import SpinCondition

    SpinCondition.__init__.__defaults__ = (0,)
