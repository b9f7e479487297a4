"""An adapter's changes written into the base's own weights."""

from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import nn


def merged(policy: nn.Module) -> nn.Module:
    """The base model with W + ΔW in place of each LoRA layer, in the base's dtype; `policy` is used up.

    ΔW = (alpha/r)·BA is added in float32 and the sum is rounded once, so that a bfloat16 base loses no more
    than its own precision. A model without an adapter comes back as it is.
    """
    if not hasattr(policy, "peft_config"):
        return policy
    with torch.no_grad():
        for module in policy.modules():
            if isinstance(module, LoraLayer):
                _merge(module)
    model: Any = policy
    base: nn.Module = model.unload()
    return base.requires_grad_(False)


def _merge(layer: Any) -> None:
    weight: nn.Parameter = layer.get_base_layer().weight
    for name in layer.active_adapters:
        changed = weight.float() + layer.get_delta_weight(name).float()
        weight.copy_(changed.to(weight.dtype))
